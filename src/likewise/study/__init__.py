"""Arms × seeds, each trained and evaluated by processes of their own, and what they show together.

- `plan`: the units of a study, what of them is done, and the commands that do the rest.
- `taking_over`: what is in the folder already is of this study, or it is refused.
- `workers`, `child`, `process`, `runner`: units side by side on cores or GPUs, and how they end.
- `journal`: how long units took, for the time that is left.
- `scores`, `results`, `tables`: all numbers, from what is finished; and the same for people.

Nothing here imports torch.
"""
