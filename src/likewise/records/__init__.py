"""A run directory: the only interface between training and everything that reads it.

    recipe.yaml          the resolved recipe
    environment.json     versions, commit, command line
    metrics.jsonl        one row per iteration: what training did; equal runs write equal bytes
    timings.jsonl        one row per iteration: seconds and memory
    rewards/000012.parquet      every image's raw rewards
    samples/000012.png          sample grids
    checkpoints/iteration-000012/    states that a run can go on from
    log.txt

Training may be killed at any moment: whatever is here was written whole, or reading ignores it.
Nothing in this package imports torch or reads a pickle. It needs a POSIX system.
"""

from likewise.records.checkpoints import CheckpointStore
from likewise.records.environment import collect_environment
from likewise.records.run_directory import RunDirectory, RunDirectoryError
from likewise.records.seal import Checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "RunDirectory",
    "RunDirectoryError",
    "collect_environment",
]
