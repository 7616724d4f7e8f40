"""Training a policy by reinforcement learning. `loop` is the table of contents:

- `session`: the parts of a run; each of its methods is one line of the loop.
- `credit`: the recipe's credit rule: rewards of all groups → advantages.
- `update`: replay the trained steps with gradient.
- `learner`: optimiser, learning-rate schedule and moving average around a policy's adapter.
- `checks`: what must hold before the first update, and when a run gives up.
- `evaluation`: a fixed set of tasks, drawn and scored every so often.
- `metrics`, `clock`, `recorder`, `trackers`, `progress`: what an iteration says, and who is told.
- `state`: everything that a resumed run needs, to and from a checkpoint.
- `processes`, `launch`, `interrupts`: several processes that act as one, and signals.
- `launchers`: options of other launchers that a run has to refuse.
- `determinism`: equal runs are equal bit for bit, where it is asked for.
- `plan`, `probe`: what a run will cost, by arithmetic and by measuring.
"""
