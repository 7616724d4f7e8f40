"""Training a policy by reinforcement learning. `loop` is the table of contents:

- `credit`: the recipe's credit rule: rewards of all groups → advantages.
- `update`: replay the trained steps, and take an optimiser step.
- `learner`: optimiser, learning-rate schedule and moving average around a policy's adapter.
- `metrics`: what an iteration's rewards, credit and update say, as numbers.
- `evaluation`: a fixed set of tasks, drawn and scored every so often.
- `checks`: what must hold before the first update.
- `state`: everything a resumed run needs, to and from a checkpoint.
- `processes`, `interrupts`, `progress`: several processes, signals, and what the user sees.
"""
