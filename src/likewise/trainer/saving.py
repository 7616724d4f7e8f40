"""The checkpoints of a run: what was learned, and what the run needs besides to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from likewise.config.recipe import Recipe
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RunDirectory
from likewise.trainer import origin, state
from likewise.trainer.checks import not_finite
from likewise.trainer.learner import Learner
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes


class Kept(Protocol):
    """What a run measures once, and keeps in every checkpoint."""

    def write(self, folder: Path) -> None:
        """Add it to a checkpoint that is being written."""

    def read(self, folder: Path) -> None:
        """Take it from a checkpoint; ValueError if the checkpoint lacks what the run needs."""


class Checkpoints:
    """Saves a run, and restores it; all processes take part.

    Args:
        kept: What to keep besides.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: RunDirectory,
        parts: Parts,
        learner: Learner,
        processes: Processes,
        kept: Sequence[Kept],
    ) -> None:
        self.recipe, self.run, self.parts = recipe, run, parts
        self.learner, self.processes, self.kept = learner, processes, kept
        self.store = CheckpointStore(run.checkpoints, recipe.run.checkpoints.keep)

    def restore(self, accept_changes: bool = False) -> tuple[int, origin.Changes]:
        """Go on from the newest intact checkpoint, if there is one; forget what came after it.

        Args:
            accept_changes: Go on although recipe or datasets have changed since.

        Returns:
            Its iteration, else 0, and those changes.

        Raises:
            ValueError: there are some, and they are not accepted; or the checkpoint lacks what the
                run needs (see `Kept.read`).
        """
        checkpoint, changes = self.store.newest(), origin.Changes()
        if checkpoint is not None:
            changes = origin.changes_since(checkpoint.folder, self.recipe, self.parts.fingerprints)
            if not accept_changes:
                origin.refuse(changes, checkpoint.iteration)
            for one in self.kept:
                one.read(checkpoint.folder)
            state.read_state(checkpoint.folder, self.parts.policy, self.learner)
        self.processes.wait()  # until all have read, before the main process tidies up
        if self.processes.is_main:
            self.run.forget_after(-1 if checkpoint is None else checkpoint.iteration)
        self.processes.wait()
        return 0 if checkpoint is None else checkpoint.iteration, changes

    def should_save(self, iteration: int) -> bool:
        """Whether there is a checkpoint of this iteration whatever happens in it."""
        run = self.recipe.run
        return iteration == run.iterations or iteration % run.checkpoints.every == 0

    def check_finite(self, iteration: int) -> None:
        """Nothing that is not finite is saved, or learned from.

        Raises:
            TrainingError: what was learned in `iteration` is not finite.
        """
        if not self.learner.is_finite():
            newest = self.store.newest()
            raise not_finite(iteration, 0 if newest is None else newest.iteration)

    def save(self, iteration: int, score: float | None = None) -> None:
        """Save what was learned up to this iteration.

        Args:
            score: The higher, the better: see `CheckpointStore.save`.
        """
        if self.learner.shards is not None:
            self._save_together(iteration, score)
        elif self.processes.is_main:
            self.store.save(iteration, self._write, score)
        self.processes.wait()

    def save_if_missing(self, iteration: int) -> None:
        """After an interrupt: make sure that the last finished iteration is in a checkpoint."""
        missing = False
        if self.processes.is_main and iteration:
            newest = self.store.newest()
            missing = newest is None or newest.iteration != iteration
        if self.processes.any(missing):
            self.save(iteration)

    def _save_together(self, iteration: int, score: float | None) -> None:
        """Every process writes its shards into a folder that the main one makes, and seals."""

        def announce(folder: Path) -> None:
            self.processes.gather([str(folder)])
            self._write(folder)

        if self.processes.is_main:
            self.store.save(iteration, announce, score)
        else:
            state.write_state(Path(self.processes.gather([""])[0]), self.parts.policy, self.learner)

    def _write(self, folder: Path) -> None:
        state.write_state(folder, self.parts.policy, self.learner)
        origin.write_origin(folder, self.recipe, self.parts.fingerprints)
        for one in self.kept:
            one.write(folder)
