"""Everything that a resumed run needs, to and from a checkpoint folder. No pickles.

Random numbers need no state: each iteration starts from seeds of its own (:func:`seed_everything`).
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from likewise import tensors as files
from likewise.protocols import Policy
from likewise.seeding import derive_seed
from likewise.trainer.checks import TrainingError
from likewise.trainer.learner import Learner

ADAPTER = "adapter"  # what is trained
AVERAGE = "average"  # its moving average, if there is one: what to generate with
TENSORS = "learner.safetensors"
REST = "learner.json"


def write_state(folder: Path, policy: Policy, learner: Learner) -> None:
    """Write adapter, average, optimiser and schedule to `folder`, bit for bit.

    Raises:
        TrainingError: a number is not finite, so that nobody could go on from here.
    """
    tensors, rest = learner.state()
    if not learner.is_finite() or not all(bool(one.isfinite().all()) for one in tensors.values()):
        raise TrainingError(
            "weights or the optimiser's moments are not finite: no checkpoint of them was saved"
        )
    policy.save_adapter(folder / ADAPTER)
    if learner.ema is not None:
        with learner.averaged():
            policy.save_adapter(folder / AVERAGE)
    files.save({name: one.cpu().contiguous() for name, one in tensors.items()}, folder / TENSORS)
    (folder / REST).write_text(rest + "\n", encoding="utf-8")


def read_state(folder: Path, policy: Policy, learner: Learner) -> None:
    """Restore what :func:`write_state` wrote, into parts of the same shape.

    Raises:
        ValueError: the adapter is of another shape, or a number is not finite.
    """
    policy.load_adapter(folder / ADAPTER)
    learner.load_state(files.load(folder / TENSORS), (folder / REST).read_text(encoding="utf-8"))


def adapter_folder(checkpoint: Path) -> Path:
    """The adapter to generate with: the moving average if there is one."""
    average = checkpoint / AVERAGE
    return average if average.is_dir() else checkpoint / ADAPTER


def seed_everything(seed: int, iteration: int, process: int) -> None:
    """Start the global generators of an iteration; only rewards of the user's own read them."""
    own = derive_seed("global", seed, iteration, process)
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)
