"""What several processes do once for all of them, and what each does for itself alone."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import photosets
import pytest
import runs
import torch
from accelerate import Accelerator
from PIL import Image
from rich.console import Console
from rolling import LinearPolicy, sampler, some_tasks
from torch import Tensor

from likewise.records.run_directory import RunDirectory
from likewise.rewards.function import FunctionReward
from likewise.trainer.evaluation_set import evaluate
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress
from likewise.trainer.recorder import Recorder

# Notes down in files who makes an index, and who opens which row.
NOTES = """
import os
import likewise.builders.datasets as building
import likewise.data.sources.opening as opening

def noting(name, own, what):
    def call(*arguments):
        with open(f"{folder}/{{name}}", "a") as file:
            file.write(f"{{os.environ.get('RANK', 0)}} {{what(*arguments)}}\\n")
        return own(*arguments)
    return call

building.index_rows = noting("indexed", building.index_rows, lambda *_: "")
opening.open_row = noting("opened", opening.open_row, lambda source, row, policy: row)
"""


def notes(folder: Path, name: str) -> list[list[str]]:
    return sorted(line.split() for line in (folder / name).read_text().splitlines())


def test_one_process_indexes_and_each_opens_its_own(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    """Four tasks of two samples: each of two processes draws two of them."""
    file = photosets.jsonl(tmp_path, rows=8, subjects=8)
    tables = []
    for count in (1, 2):
        recipe = runs.tiny_recipe(
            tiny_model,
            data={"kind": "jsonl", "path": str(file), "held_out": None, "workers": 0},
            rollout={"tasks": 4, "group_size": 2, "num_steps": 2},
            run={"processes": count, "iterations": 2},
        )
        folder = tmp_path / f"notes-{count}"
        folder.mkdir()
        end = launches.run(folder / "run", recipe, patch=NOTES.format(folder=folder), forks=count)
        assert end["code"] == 0, launches.log.read_text()[-3000:]
        assert notes(folder, "indexed") == [["0"]]
        tables.append([RunDirectory.open(folder / "run").read_rewards(i) for i in (1, 2)])
    rows = [row for _, row in notes(tmp_path / "notes-2", "opened")]
    assert sorted(rows) == [str(row) for row in range(8)]  # each once, and not all by one
    assert [rank for rank, _ in notes(tmp_path / "notes-2", "opened")] == [*"00001111"]
    for one, other in zip(*tables, strict=True):
        columns = ["task", "prompt", "subject", "kind", "photos"]
        assert one.select(columns) == other.select(columns)


class End(Processes):
    """One of two processes, which are threads here.

    Attributes:
        sent: What it gave to the main process alone.
        said: What it gave to both.
    """

    def __init__(self, accelerator: Accelerator, index: int, table: dict[int, Any]) -> None:
        super().__init__(accelerator)
        self.count, self.index, self.is_main = 2, index, index == 0
        self.table = table
        self.sent: list[Any] = []
        self.said: list[Any] = []

    def _exchange(self, items: Any) -> list[Any]:
        self.table[self.index] = items
        self.table[-1].wait()
        both = [self.table[0], self.table[1]]
        self.table[-1].wait()
        return both

    def gather(self, items: Sequence[Any]) -> list[Any]:
        self.said += items
        return [item for own in self._exchange(list(items)) for item in own]

    def gather_on_main(self, items: Sequence[Any]) -> list[Any]:
        self.sent += items
        both = self._exchange(list(items))
        return [item for own in both for item in own] if self.is_main else []

    def sum(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._exchange(tensor)).sum(0)


@pytest.fixture
def ends() -> list[End]:
    accelerator = Accelerator(cpu=True)
    table: dict[int, Any] = {-1: threading.Barrier(2, timeout=60)}
    return [End(accelerator, index, table) for index in range(2)]


def test_only_images_to_be_shown_leave_their_process(ends: list[End]) -> None:
    policy, tasks = LinearPolicy(), some_tasks(5)
    red = {"red": FunctionReward(runs.red)}

    def evaluated(processes: Processes) -> tuple[Any, list[Image.Image]]:
        found = evaluate(policy, sampler(policy), red, tasks, 2, processes, shown=3)
        assert found is not None
        return found

    wanted, images = evaluated(Processes(Accelerator(cpu=True)))
    with ThreadPoolExecutor(2) as pool:
        (numbers, shown), (same, none) = pool.map(evaluated, ends)
    assert numbers == same == pytest.approx(wanted)
    assert [one.tobytes() for one in shown] == [one.tobytes() for one in images]
    assert len(images) == 3 and none == []
    assert [number for number, _ in ends[1].sent] == [1]
    assert not any(isinstance(one, Image.Image) for row in ends[1].said for one in row)


def test_what_others_say_is_said_once(ends: list[End], tmp_path: Path) -> None:
    recipe, run = runs.tiny_recipe("any"), RunDirectory(tmp_path)
    said = [io.StringIO() for _ in ends]
    spoken = [Progress([], 1, Console(file=file, width=200), quiet=False) for file in said]
    for progress in spoken:
        progress.warn("from loading")
    recorders = [Recorder(recipe, run, *pair) for pair in zip(ends, spoken, strict=True)]
    for number, progress in enumerate(spoken):
        progress.warn("row 3 is bad, which both have opened")
        progress.warn(f"row {number} is bad")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Recorder.pass_on_warnings, recorders))
    lines = [line.removeprefix("warning: ") for line in said[0].getvalue().splitlines()]
    both = "row 3 is bad, which both have opened"
    assert lines == ["from loading", both, "row 0 is bad", "row 1 is bad"]


def refuses() -> None:
    raise ValueError("no such file")


@pytest.mark.parametrize("make", [lambda: [3], refuses])
def test_a_lone_process_makes_it_itself(make: Callable[[], Any]) -> None:
    alone = Processes(Accelerator(cpu=True))
    if make is refuses:
        with pytest.raises(ValueError, match="no such file"):
            alone.once(make)
    else:
        assert alone.once(make) == [3]
