"""Two machines by torchrun, played by two process groups with homes of their own on this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import runs
import yaml

from likewise.records.run_directory import RunDirectory

pytestmark = pytest.mark.slow  # imports torch eight times
ITERATIONS = 12
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


class Node:
    """A machine: torchrun with one process of a run."""

    def __init__(self, home: Path, port: int, *command: str) -> None:
        home.mkdir(exist_ok=True)
        self.log = home / "log.txt"
        rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
        rendezvous += [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"]
        paths = os.pathsep.join(filter(None, [str(runs.HERE), *sys.path]))
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                [*TORCHRUN, *rendezvous, "-m", "likewise", "train", *command],
                env={**os.environ, "HOME": str(home), "PYTHONPATH": paths},
                cwd=home,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def vanish(self) -> None:
        """All of it, at once."""
        for process in [*self.process.children(recursive=True), self.process]:
            process.kill()
        self.process.wait()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Callable[..., list[Node]]]:
    """``nodes(*command)`` starts a command on both machines."""
    started: list[Node] = []

    def start(*command: str) -> list[Node]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        both = [Node(tmp_path / f"home-{i}", port, *command) for i in range(2)]
        started.extend(both)
        return both

    yield start
    for one in started:
        if one.process.is_running():
            one.vanish()


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_a_machine_that_vanishes_ends_the_other_soon(
    nodes: Callable[..., list[Node]], tiny_model: Path, tmp_path: Path, sharding: str
) -> None:
    shared, recipe = tmp_path / "shared", tmp_path / "recipe.yaml"
    run = {"iterations": ITERATIONS, "processes": 2, "sharding": sharding}
    content = runs.tiny_recipe(tiny_model, run={**run, "checkpoints": {"every": 1}})
    recipe.write_text(yaml.safe_dump(content.model_dump(mode="json")))

    first, second = nodes(str(recipe), "--run-dir", str(shared))
    deadline = time.monotonic() + runs.PATIENCE
    while not (shared / "rewards" / "000002.parquet").exists():
        assert time.monotonic() < deadline and first.process.poll() is None, first.log.read_text()
        time.sleep(0.05)
    second.vanish()
    began = time.monotonic()
    assert first.process.wait(runs.PATIENCE) != 0
    seconds = time.monotonic() - began
    said = first.log.read_text()
    print(f"\nended after {seconds:.1f} s")
    assert seconds < 60
    assert "process 0 of 2 lost its connection to another one" in said
    assert f"likewise train --resume {shared}" in " ".join(said.split())

    before = RunDirectory.open(shared).read_metrics()[-1]["iteration"]
    assert before < ITERATIONS
    for one in nodes("--resume", str(shared)):
        assert one.process.wait(runs.PATIENCE) == 0, one.log.read_text()
    rows = RunDirectory.open(shared).read_metrics()
    assert [row["iteration"] for row in rows] == list(range(1, ITERATIONS + 1))
