"""Measuring images of runs, models and other systems. Modules:

- `settings`, `manifest`, `items`: what an evaluation is about, which images, and their tasks.
- `batches`, `drawing`, `image_scoring`: generation, then scoring; both in batches that survive a
  kill.
- `measures`: metrics of one image.
- `benchmark_protocols`, `summary`: averages, and what may stand in one table.
- `before_after`: a run as one image.
- `attribution`: which step's noise decides which score.

Knows policies and rewards by protocol only.
"""
