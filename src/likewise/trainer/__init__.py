"""Training a policy by reinforcement learning. `loop` is the table of contents:

- `session`: the parts of a run in progress, put together from its `plugins`.
- `rollouts`: draw the images of an iteration, and score them.
- `assignment`, `floors`, `timing`: the recipe's credit rule: rewards of all groups → advantages.
- `update_loop`, `update`: replay the trained steps with gradient, one optimiser step after another.
- `objective_table`, `image_objectives`, `terms`: what an update minimises.
- `reward_gradients`: the gradient of each reward apart, measured and combined.
- `learner`, `old`: optimiser, learning-rate schedule and averages around a policy's adapter.
- `checks`: what must hold before the first update, and when a run gives up.
- `evaluation_set`: a fixed set of tasks, drawn and scored every so often.
- `metrics`, `clock`, `recorder`, `trackers`, `progress`: what an iteration says, and who is told.
- `facts`: what is known of a task in processes that do not draw it.
- `saving`, `state`, `origin`: checkpoints: everything that a resumed run needs, and made with what.
- `processes`, `reducing`, `launch`, `interrupts`: several processes that act as one, and signals.
- `launchers`: options of other launchers that a run has to refuse.
- `kernels`: equal runs are equal bit for bit, where it is asked for.
- `plan`, `probe`: what a run will cost, by arithmetic and by measuring.
"""
