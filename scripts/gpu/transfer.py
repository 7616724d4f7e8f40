"""What travels to and from the GPU machine, within its limits: a few files of limited size.

Results are written while a program runs, and every file is replaced at once, so that it is whole
whenever the machine stops. Parts of one file could be of two saves then: a digest tells.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

MIB = 2**20
FILES, FILE_SIZE, TOTAL_SIZE = 8, 16 * MIB, 64 * MIB  # of results
TREE_SIZE = 64 * MIB  # of the working tree and the kit, on their way there
PART_SIZE = 15 * MIB
_ROOM = MIB  # for headers, small files, and what a file system adds


def put(out: Path, name: str, write: Callable[[Path], object]) -> None:
    """Write a result file through `write(path)`, so that it is whole or not there."""
    temporary = out / f"{name}.tmp"
    write(temporary)
    os.replace(temporary, out / name)


def put_parts(out: Path, source: Path) -> str:
    """Write a file as ``NAME.1of3`` …, none larger than PART_SIZE; returns the file's SHA-256."""
    count = parts_of(source.stat().st_size)
    names = [f"{source.name}.{number}of{count}" for number in range(1, count + 1)]
    with source.open("rb") as handle:
        for name in names:
            put(out, name, lambda path: path.write_bytes(handle.read(PART_SIZE)))
    for old in out.glob(f"{source.name}.*of*"):
        if old.name not in names:
            old.unlink()
    return digest(source)


def parts_of(size: int) -> int:
    """How many parts a file of so many bytes is written in."""
    return max(1, -(-size // PART_SIZE))


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def join(folder: Path, name: str, target: Path, wanted: str) -> None:
    """Put the parts of a file together again.

    Args:
        wanted: SHA-256 of the whole file.

    Raises:
        FileNotFoundError: there are none, or one is missing (the message names it).
        ValueError: the parts are not of one file (the message names it).
    """
    found = sorted(folder.glob(f"{name}.1of*"))
    if not found:
        raise FileNotFoundError(f"{folder} has no {name}.1of…: was anything saved?")
    count = int(found[0].name.rpartition("of")[2])
    parts = [folder / f"{name}.{number}of{count}" for number in range(1, count + 1)]
    for part in parts:
        if not part.exists():
            raise FileNotFoundError(f"{part} is missing")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    with temporary.open("wb") as handle:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, handle)
    if digest(temporary) != wanted:
        temporary.unlink()
        raise ValueError(f"the parts of {name} in {folder} are of different saves, or damaged")
    os.replace(temporary, target)


def pack(folder: Path, target: Path) -> Path:
    """A folder's files as a tar: weights hardly compress."""
    with tarfile.open(target, "w") as archive:
        archive.add(folder, arcname=".")
    return target


def unpack(source: Path, folder: Path) -> None:
    """What :func:`pack` packed."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")


def reduce_state(source: Path, target: Path, limit: int) -> str:
    """Copy a training state, with as much of it as fits into `limit` bytes; says how much.

    All forms resume: what is stored in bfloat16 comes back as float32, and the optimisers' moments
    start anew where they are left out. Averages are always exact.

    Raises:
        ValueError: not even weights and averages fit (the message says how large they are).
    """
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    bare = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
    forms = {
        "exact": tensors,
        "moments in bfloat16": _halved(tensors, "optimizer."),
        "no moments": bare,
        "no moments, weights in bfloat16": _halved(bare, "model."),
    }
    for form, kept in forms.items():
        size = sum(value.nbytes for value in kept.values())
        if size + _ROOM <= limit:
            save_file(kept, target, metadata=metadata)
            return form
    raise ValueError(
        f"{source} needs {(size + _ROOM) / MIB:.1f} MiB for weights and averages alone, and "
        f"{max(0, limit) / MIB:.1f} MiB are left"
    )


def _halved(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """With what begins with `prefix` in bfloat16, but for single numbers: they count steps."""
    return {
        name: value.to(torch.bfloat16) if name.startswith(prefix) and value.ndim else value
        for name, value in tensors.items()
    }


def size_of(*paths: Path) -> int:
    """Bytes of files and of everything in folders; what is not there counts nothing."""
    return sum(
        file.stat().st_size
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )
