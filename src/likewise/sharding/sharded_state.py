"""State in shards, to and from safetensors files, by torch.distributed.checkpoint.

Each process writes a file of what it holds, and any number of processes can read them. Names are
those of `Learner.state`: ``KIND.INDEX`` or ``KIND.INDEX.KEY``, where INDEX is a parameter's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from likewise.sharding.shards import Shards
from likewise.tensors import check_finite, respect_umask


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, shards: Shards) -> None:
    """Write this process's part of a state; a collective call.

    Args:
        tensors: Those of parameters as plain shards, all others alike in all processes.

    Raises:
        OSError: some process could not write.
    """
    content = {name: _wrapped(name, one, shards) for name, one in tensors.items()}
    try:
        save(content, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise OSError(f"{folder} cannot be written: {_reasons(error)}") from error
    if shards.is_main:  # whose files are all there now
        respect_umask(folder)


def read_tensors(folder: Path, shards: Shards | None) -> dict[str, Tensor]:
    """Read what :func:`write_tensors` wrote, however many processes did.

    Args:
        shards: Whose part is wanted; a collective call then. None: everything is.

    Raises:
        ValueError: a file is missing or damaged, a number is not finite, or a tensor is of another
            shape.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        found = reader.read_metadata().state_dict_metadata
        empty = {
            name: _wrapped(name, _empty(name, one, shards), shards) for name, one in found.items()
        }
        with _quietly():
            load(empty, storage_reader=reader, no_dist=shards is None)
    except (CheckpointException, RuntimeError, KeyError, AssertionError) as error:
        raise ValueError(
            f"{folder} is damaged, or of another adapter: {_reasons(error)}"
        ) from error
    tensors = {
        name: one.to_local() if isinstance(one, DTensor) else one for name, one in empty.items()
    }
    check_finite(tensors, folder)
    return tensors


def own_part(tensors: Mapping[str, Tensor], shards: Shards) -> dict[str, Tensor]:
    """This process's part of a state that was written without shards.

    Raises:
        ValueError: a tensor has another shape than its parameter.
    """
    return {
        name: one if one.ndim == 0 else shards.own(_index(name), one)
        for name, one in tensors.items()
    }


def _wrapped(name: str, plain: Tensor, shards: Shards | None) -> Tensor:
    """With what torch needs to know of a shard; scalars are alike in all processes."""
    return plain if shards is None or plain.ndim == 0 else shards.wrapped(_index(name), plain)


def _empty(name: str, stored: Any, shards: Shards | None) -> Tensor:
    """Room for this process's part of a stored tensor.

    Raises:
        ValueError: it has another shape than its parameter.
    """
    if shards is None or not stored.size:
        return torch.empty(stored.size, dtype=stored.properties.dtype)
    index = _index(name)
    if index >= len(shards.plain) or stored.size != shards.parameters[index].shape:
        raise ValueError(f"{name} has the shape {list(stored.size)}, which no parameter has here")
    return torch.empty_like(shards.plain[index])


def _index(name: str) -> int:
    return int(name.split(".")[1])


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _reasons(error: BaseException) -> str:
    """Of an error in several processes, what the first of them said."""
    failures = getattr(error, "failures", None) or {0: (error, None)}
    return str(next(iter(failures.values()))[0])
