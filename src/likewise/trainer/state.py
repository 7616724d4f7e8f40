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
from likewise.sharding.sharded_state import own_part, read_tensors, write_tensors
from likewise.trainer.checks import TrainingError
from likewise.trainer.learner import Learner

ADAPTER = "adapter"  # what is trained
AVERAGE = "average"  # its moving average, if there is one: what to generate with
TENSORS = "learner.safetensors"
SHARDS = "learner"  # folder instead of that file, where the policy is in shards
REST = "learner.json"
PARAMETER = "parameter"  # what is trained itself, among the tensors in shards


def write_state(folder: Path, policy: Policy, learner: Learner) -> None:
    """Write adapter, average, optimiser and schedule to `folder`, bit for bit.

    Where the policy is in shards, all processes write at once: a collective call.

    Raises:
        TrainingError: a number is not finite, so that nobody could go on from here.
        OSError: a file could not be written.
    """
    tensors, rest = learner.state()
    shards = learner.shards
    finite = all(bool(one.isfinite().all()) for one in tensors.values())
    if not learner.is_finite() or not (finite if shards is None else shards.all(finite)):
        raise TrainingError(
            "weights or the optimiser's moments are not finite: no checkpoint of them was saved"
        )
    policy.save_adapter(folder / ADAPTER)
    if learner.ema is not None:
        with learner.averaged():
            policy.save_adapter(folder / AVERAGE)
    if shards is None:
        content = {name: one.cpu().contiguous() for name, one in tensors.items()}
        files.save(content, folder / TENSORS)
    else:
        own = {f"{PARAMETER}.{i}": one.detach() for i, one in enumerate(learner.parameters)}
        write_tensors({**tensors, **own}, folder / SHARDS, shards)
    if shards is None or shards.is_main:
        (folder / REST).write_text(rest + "\n", encoding="utf-8")


def read_state(folder: Path, policy: Policy, learner: Learner) -> None:
    """Restore what :func:`write_state` wrote, into parts of the same shape.

    In shards or not, over however many processes: what was written either way can be read either
    way.

    Raises:
        ValueError: the adapter is of another shape, or a number is not finite.
    """
    shards = learner.shards
    if (folder / SHARDS).is_dir():
        tensors = read_tensors(folder / SHARDS, shards)
        own = {name: one for name, one in tensors.items() if name.startswith(f"{PARAMETER}.")}
        learner.load_parameters([own[f"{PARAMETER}.{i}"] for i in range(len(own))])
        tensors = {name: one for name, one in tensors.items() if name not in own}
    else:
        policy.load_adapter(folder / ADAPTER)
        tensors = files.load(folder / TENSORS)
        if shards is not None:
            tensors = own_part(tensors, shards)
    learner.load_state(tensors, (folder / REST).read_text(encoding="utf-8"))


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
