"""Files that survive a crash: written whole or not at all, and really on the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"  # every unfinished file or folder starts with this; only crashes leave any


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors about a file say which one: those of a full disk do not by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace or create the file `path`; text is written as UTF-8.

    After a crash at any moment there is either the old file or the new one.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full (the message names
            the file); `path` is as it was.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with naming(path), temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Force `folder` and everything in it to the disk, content before names."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            fsync_path(Path(parent, name))
        fsync_path(Path(parent))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a folder; a folder disappears at once, not file by file."""
    if path.is_dir() and not path.is_symlink():
        doomed = path.with_name(f"{TEMPORARY}{path.name.removeprefix(TEMPORARY)}-{os.getpid()}-old")
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
