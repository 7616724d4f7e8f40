"""Arms × seeds, each trained and evaluated by processes of their own, and what they show together.

- `plan`: the units of a study, what of them is done, and the commands that do the rest.
- `existing`: checks that what is in the folder already belongs to this study.
- `runner`: units side by side, and how they end; `unit_jobs`: what it asks of an executor.
- `executors`: those by name. `workers`, `child`, `process`: on cores and GPUs of this machine;
  `remote_units`, `ray_tasks`, `slurm_steps`: on a cluster.
- `journal`: how long units took, for the time that is left.
- `scores`, `results`, `tables`: all numbers, from what is finished; and the same as Markdown.

Nothing here imports torch.
"""
