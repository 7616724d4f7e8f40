"""Safetensors files, written and read so that whoever needs them can trust them.

safetensors makes its files readable by their owner alone, raises errors of its own where the disk
is full or not writable, and reads NaN like any other number. Here files have the permissions that
the umask gives, errors are ``OSError`` and ``ValueError``, and numbers are finite.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `file`.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    with writing(file):
        save_file(dict(tensors), file, metadata=metadata)


def load(file: Path) -> dict[str, Tensor]:
    """All tensors of `file`, on the CPU.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: it is not an intact safetensors file, or a number in it is not finite.
    """
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged, or not a safetensors file: {error}") from error
    check_finite(tensors, file)
    return tensors


def check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights that would only draw black or grey images.

    Args:
        source: The file or folder that they are from, for the message.

    Raises:
        ValueError: a tensor holds NaN or infinity.
    """
    bad = [name for name, one in tensors.items() if not is_finite(one)]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            f"{source} holds weights that are not finite (NaN or infinity) in {bad[0]}{more}: "
            "what was trained there has diverged, or the file is damaged"
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; whole and quantised numbers never are."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.dtype in FLOATING
    if not plain or tensor.numel() == 0:
        return True
    # Both are NaN if any value is. Much faster than isfinite(), which makes a tensor as large.
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


def save_pretrained(model: Any, folder: Path, **options: Any) -> None:
    """Write a model, pipeline, tokenizer or processor of diffusers or transformers to `folder`.

    Raises:
        OSError: it cannot be written, or the disk is full; the message names the folder.
    """
    with writing(folder):
        model.save_pretrained(folder, **options)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within this context, code of others writes safetensors to `path`, a file or a folder.

    Raises:
        OSError: it could not be written; the message names `path`.
    """
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    except OSError as error:
        if error.filename is not None or error.errno is None:  # it names its file
            raise
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error
    respect_umask(path)


def respect_umask(path: Path) -> None:
    """Give a file, or all files in a folder, the permissions of any newly created file."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    modes: dict[Path, int] = {}
    for file in files:
        if file.parent not in modes:
            modes[file.parent] = _usual_mode(file.parent)
        if file.stat().st_mode & 0o777 != modes[file.parent]:
            file.chmod(modes[file.parent])


def _usual_mode(folder: Path) -> int:
    """Permissions of a new file in `folder`; asking the umask itself would change it for a moment,
    in all threads."""
    probe = folder / f".tmp-mode-{os.getpid()}"
    handle = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        probe.unlink()
