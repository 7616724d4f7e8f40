"""`RunDirectory`: what a training run writes, and what everything else reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.records.atomic import fsync_path, remove, remove_leftovers, write_atomically
from likewise.records.fresh import FOLDERS, LOCK, clear, holds_nothing_learned
from likewise.records.gaps import lacking
from likewise.records.lines import Number, append_row, drop_rows_after, extend_row, read_rows
from likewise.records.locks import exclusive

if TYPE_CHECKING:  # both load slowly, and most importers need one of them at most
    import pyarrow

    from likewise.config import Recipe

METRICS = "metrics.jsonl"
RECIPE = "recipe.yaml"
NUMBERED = re.compile(r"(\d{6,})(?!\d)")  # rewards and samples start with their iteration


class RunDirectoryError(ValueError):
    """A path cannot be used as asked; the message says what to do."""


class RunDirectory:
    """Made by `create` or `open`. Iterations count from 0 and name files with six digits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"  # the folder of a `CheckpointStore`
        self.log = path / "log.txt"

    @classmethod
    def check_free(cls, path: Path) -> None:
        """A run can be started in `path`: nothing is there, or a folder that holds nothing learned.

        Raises:
            RunDirectoryError: something else is.
        """
        if (path.exists() or path.is_symlink()) and not holds_nothing_learned(path):
            resumed = f"go on with that run by --resume {path}, or "
            raise RunDirectoryError(
                f"{path} exists and is not an empty folder: "
                f"{resumed if (path / RECIPE).is_file() else ''}choose another --run-dir"
            )

    @classmethod
    @contextmanager
    def start(
        cls, path: Path, recipe: Recipe, environment: Mapping[str, Any]
    ) -> Iterator[RunDirectory]:
        """Make `path`, and its parents, with recipe and environment; locked, as by :meth:`lock`.

        What a run left there that ended before it learned anything is removed.

        Raises:
            RunDirectoryError: something else is at `path`, or another process trains there.
        """
        from likewise.config import to_yaml

        path = Path(path)
        cls.check_free(path)
        recipe_text = to_yaml(recipe)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        with run._exclusive():
            cls.check_free(path)  # what was there may have learned until now
            clear(path)
            run._make_folders()
            text = json.dumps(dict(environment), indent=2, ensure_ascii=False)
            write_atomically(path / "environment.json", text + "\n")
            write_atomically(path / RECIPE, recipe_text)  # last: it makes a run directory
            fsync_path(path.parent)
            yield run

    @classmethod
    def create(cls, path: Path, recipe: Recipe, environment: Mapping[str, Any]) -> RunDirectory:
        """As :meth:`start`, without keeping the lock."""
        with cls.start(path, recipe, environment) as run:
            return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The run in `path`; nothing is changed there.

        Raises:
            RunDirectoryError: there is no such folder, or no recipe in it.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunDirectoryError(f"there is no run directory {path}")
        if not (path / RECIPE).is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has no {RECIPE}")
        return cls(path)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as resolved at the start of the run; errors as `load_recipe`."""
        from likewise.config import load_recipe

        return load_recipe(self.path / RECIPE)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What the run was started on.

        Raises:
            ValueError: its file is damaged.
        """
        file = self.path / "environment.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{file} is damaged ({error}): restore or remove it") from error

    def append_metrics(self, row: Mapping[str, Number]) -> None:
        """Add an iteration's numbers; they are on the disk when this returns.

        Only what follows from recipe and seed belongs here: then two equal runs write
        `metrics.jsonl` equal byte for byte. Seconds and memory go to `append_timings`. Keys keep
        their order, floats every bit; NaN and ±inf become null.

        Raises:
            ValueError: the row has no whole-number `iteration`.
            TypeError: a value is neither a number nor None.
        """
        append_row(self.path / METRICS, row)

    def extend_metrics(self, iteration: int, numbers: Mapping[str, Number]) -> None:
        """Add numbers to an iteration's row: an evaluation that a signal had put off.

        Raises:
            ValueError, TypeError: as `lines.extend_row`.
        """
        extend_row(self.path / METRICS, iteration, numbers)

    def append_timings(self, row: Mapping[str, Number]) -> None:
        """Add an iteration's seconds and memory, as `append_metrics` does its numbers."""
        append_row(self.path / "timings.jsonl", row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Rows in order; a last line torn by a crash is ignored.

        Raises:
            ValueError: another line is not a row; the message names file and line.
        """
        return read_rows(self.path / METRICS)

    def read_timings(self) -> list[dict[str, Any]]:
        """As `read_metrics`."""
        return read_rows(self.path / "timings.jsonl")

    def write_rewards(self, iteration: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write an iteration's table, one row per image; missing values are None.

        A column `iteration` is put first unless there is one, so that tables can be joined.

        Raises:
            ValueError: columns differ in length (from pyarrow).
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(columns))
        if "iteration" not in columns:
            numbers = pa.array([iteration] * table.num_rows, pa.int64())
            table = table.add_column(0, "iteration", numbers)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_atomically(self._rewards(iteration), sink.getvalue().to_pybytes())

    def read_rewards(self, iteration: int | None = None) -> pyarrow.Table:
        """The table of one iteration, or all of them in order; columns that one lacks are null.

        Raises:
            FileNotFoundError: that iteration has no table.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if iteration is not None:
            files = [self._rewards(iteration)]
        else:
            found = (self.path / "rewards").glob("*.parquet")
            numbered = [(_number(file), file) for file in found]
            files = [file for number, file in sorted(numbered) if number is not None]
        tables = []
        for file in files:
            try:
                tables.append(pq.read_table(file))
            except pa.ArrowException as error:
                raise ValueError(f"{file} is damaged ({error}): restore or remove it") from error
        if not tables:
            return pa.table({"iteration": pa.array([], pa.int64())})
        return pa.concat_tables(tables, promote_options="permissive")

    def sample_path(self, iteration: int, suffix: str = ".png") -> Path:
        """Where sample images of an iteration go; suffix "" is for a folder of them."""
        return self.path / "samples" / f"{iteration:06d}{suffix}"

    def forget_after(self, iteration: int) -> None:
        """Drop what was written after `iteration`, the checkpoint that the run goes on from.

        That is: rows, reward tables and samples of later iterations, torn lines, and unfinished
        files. Checkpoints stay (`CheckpointStore` sets later ones aside), and so does the log.
        After a crash in the middle, the same call finishes it.

        Raises:
            ValueError: a metrics or timings file is unreadable; see `read_metrics`.
        """
        for name in (METRICS, "timings.jsonl"):
            drop_rows_after(self.path / name, iteration)
        remove_leftovers(self.path)
        for folder in (self.path / "rewards", self.path / "samples"):
            remove_leftovers(folder)
            for entry in list(folder.glob("*")):
                number = _number(entry)
                if number is not None and number > iteration:
                    remove(entry)

    def gaps(self, iteration: int) -> list[str]:
        """What is missing of the records of iterations 1 to `iteration`, a phrase per kind.

        Raises:
            ValueError: a metrics or timings file is unreadable; see `read_metrics`.
        """
        found = {name: read_rows(self.path / name) for name in (METRICS, "timings.jsonl")}
        have: dict[str, set[Any]] = {
            name: {row["iteration"] for row in rows} for name, rows in found.items()
        }
        have["rewards/"] = {_number(file) for file in (self.path / "rewards").glob("*.parquet")}
        phrases = [lacking(name, known, iteration) for name, known in have.items()]
        return [phrase for phrase in phrases if phrase]

    @contextmanager
    def lock(self) -> Iterator[RunDirectory]:
        """Be the only process that trains here; see `locks.exclusive`.

        Raises:
            RunDirectoryError: another process trains here, or another part of this one.
        """

        with self._exclusive():
            self._make_folders()  # a copy of a run directory may lack its empty folders
            yield self

    def _exclusive(self) -> AbstractContextManager[None]:
        def busy(process: str) -> RunDirectoryError:
            return RunDirectoryError(f"{self.path} is in use: process {process} trains there")

        return exclusive(self.path / LOCK, busy)

    def _make_folders(self) -> None:
        for name in FOLDERS:
            (self.path / name).mkdir(exist_ok=True)

    def _rewards(self, iteration: int) -> Path:
        return self.path / "rewards" / f"{iteration:06d}.parquet"


def _number(path: Path) -> int | None:
    match = NUMBERED.match(path.name)
    return int(match[1]) if match else None
