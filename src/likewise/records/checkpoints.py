"""Checkpoints of a run: folders that appear whole, are checked when read, and are pruned.

What a checkpoint holds is up to whoever writes it; here it is files. One process may save at a
time (`RunDirectory.lock`); any number may read. Names in the store's folder:

    iteration-000012          a checkpoint
    iteration-000012.old      the same iteration's checkpoint while it is being replaced
    damaged-iteration-000012  evidence: failed its check and was in the way of a later save
    abandoned-iteration-…     intact, but the run went on from an earlier one
    .tmp-…                    unfinished; removed by the next save
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from likewise.printable import printable
from likewise.records.atomic import (
    TEMPORARY,
    fsync_path,
    fsync_tree,
    naming,
    remove,
    remove_leftovers,
)
from likewise.records.seal import (
    Checkpoint,
    DamageError,
    read_checkpoint,
    seal,
    verify,
)

NAME = re.compile(r"iteration-(\d{6,})(\.old)?")
REPLACED = ".old"


class CheckpointStore:
    """The checkpoints in `folder`, which the first save creates.

    Reading changes nothing on the disk and never unpickles anything.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """`keep`: how many of the newest to keep, at least 1; the best is kept beside them.

        Raises:
            ValueError: `keep` is less than 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.folder = folder
        self.keep = keep

    def save(
        self, iteration: int, write: Callable[[Path], None], score: float | None = None
    ) -> Path:
        """Save what `write` writes into the empty folder that it is given; return its final path.

        A crash at any point leaves at least one intact checkpoint if there was one before. Then
        prune: the newest `keep` stay, and the one with the highest score (ties: the newest; without
        a score, or with one that is not finite, never). Checkpoints of later iterations belong to
        a history that the run has left: they are set aside, and nothing reads them again.

        Raises:
            ValueError: `iteration` is negative, or `write` wrote a manifest of its own.
            Exception: whatever `write` raises; the store is as it was.
        """
        if iteration < 0:
            raise ValueError(f"iteration must not be negative: {iteration}")
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        self._rename_back()
        temporary = self.folder / f"{TEMPORARY}{iteration}-{os.getpid()}"
        temporary.mkdir()
        try:
            with naming(self.folder / f"iteration-{iteration:06d}"):
                write(temporary)
                seal(temporary, iteration, score)
                fsync_tree(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        target = self._publish(temporary, iteration)
        self._set_aside_after(iteration)
        self._prune()
        return target

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint; damaged ones are skipped with a warning."""
        return self._first_intact(self._readable())

    def newest_listed(self) -> Checkpoint | None:
        """The newest with a readable manifest, found quickly: its files may be damaged."""
        for iteration, folder in self._listed():
            with suppress(DamageError):
                return read_checkpoint(folder, iteration)
        return None

    def best(self) -> Checkpoint | None:
        """The intact checkpoint with the highest score, None if none has a score."""
        return self._first_intact(_by_score(self._readable()))

    def damaged(self) -> list[str]:
        """What is wrong with each checkpoint that cannot be used, newest first; with its name."""
        found = []
        for iteration, folder in self._listed():
            try:
                verify(folder, iteration)
            except DamageError as damage:
                found.append(f"{folder.name}: {damage}")
        return found

    def _first_intact(self, checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
        for checkpoint in checkpoints:
            try:
                verify(checkpoint.folder, checkpoint.iteration)
            except DamageError as damage:
                _warn(checkpoint.folder, damage)
            else:
                return checkpoint
        return None

    def _readable(self) -> list[Checkpoint]:
        """All whose manifest can be read, newest first; a warning for each of the others."""
        found = []
        for iteration, folder in self._listed():
            try:
                found.append(read_checkpoint(folder, iteration))
            except DamageError as damage:
                _warn(folder, damage)
        return found

    def _listed(self) -> list[tuple[int, Path]]:
        """Iterations and folders, newest first; one being replaced after its successor."""
        if not self.folder.is_dir():
            return []
        matches = ((NAME.fullmatch(folder.name), folder) for folder in self.folder.iterdir())
        named = [(int(match[1]), folder) for match, folder in matches if match and folder.is_dir()]
        return sorted(named, key=lambda entry: (-entry[0], entry[1].name))

    def _publish(self, temporary: Path, iteration: int) -> Path:
        target = self.folder / f"iteration-{iteration:06d}"
        if target.exists():
            self._make_way(target, iteration)
        os.rename(temporary, target)
        fsync_path(self.folder)
        fsync_path(self.folder.parent)  # the first save created the folder
        return target

    def _rename_back(self) -> None:
        """Give checkpoints whose replacement a crash prevented their own name again."""
        for _, folder in self._listed():
            own = folder.with_name(folder.name.removesuffix(REPLACED))
            if own != folder and not own.exists():
                os.rename(folder, own)

    def _make_way(self, target: Path, iteration: int) -> None:
        """A folder cannot be replaced in one step: until its successor is there, it stays."""
        try:
            verify(target, iteration)
        except DamageError:
            self._set_aside(target, "damaged")  # and if there is an .old, that one stays
            return
        old = target.with_name(target.name + REPLACED)
        if old.exists():
            remove(old)
        os.rename(target, old)
        fsync_path(self.folder)

    def _set_aside_after(self, iteration: int) -> None:
        for number, folder in self._listed():
            if number > iteration:
                try:
                    verify(folder, number)
                    self._set_aside(folder, "abandoned")
                except DamageError:
                    self._set_aside(folder, "damaged")

    def _set_aside(self, folder: Path, reason: str) -> None:
        for count in itertools.count(1):
            aside = folder.with_name(f"{reason}-{folder.name}" + (f"-{count}" if count > 1 else ""))
            if not aside.exists():
                os.rename(folder, aside)
                return

    def _prune(self) -> None:
        readable = []
        for iteration, folder in self._listed():
            sibling = folder.with_name(folder.name.removesuffix(REPLACED))
            if sibling != folder and sibling.exists():
                remove(folder)
                continue
            try:
                readable.append(read_checkpoint(folder, iteration))
            except DamageError:
                self._set_aside(folder, "damaged")
        kept = readable[: self.keep] + _by_score(readable)[:1]
        for checkpoint in readable:
            if checkpoint not in kept:
                remove(checkpoint.folder)
        fsync_path(self.folder)


def _by_score(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Those with a score, best first, equals in the order in which they came."""
    scored = [(each.score, each) for each in checkpoints if each.score is not None]
    return [each for _, each in sorted(scored, key=lambda pair: -pair[0])]


def _warn(folder: Path, damage: DamageError) -> None:
    if folder.exists():  # else the process that trains has just pruned it
        warnings.warn(printable(f"checkpoint {folder} is skipped: {damage}"), stacklevel=4)
