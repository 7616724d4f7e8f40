"""From a policy to trajectories, images and a table of rewards. Where to find what:

- `sampler`: noise levels and the stochastic transition, ready to take step t.
- `steps`: which steps of an iteration are stochastic, and which are trained.
- `layout`: which process draws which images, in which micro-batches.
- `trajectories`: the drawing itself, and what of it is kept for the update.
- `finishes`: images that trained steps lead to along the ODE, for rules that credit single steps.
- `containment`: what keeps a reward's failure its own.
- `scoring`: images → rewards, with failures kept apart from low values.

Knows policies and rewards by protocol only.
"""
