"""`compare --executor ray` on a local cluster of two machines, whose units are a stand-in's."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from comparing import STUDY, ended, finish, of_study, start, timeless, until, write_study

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
from ray.cluster_utils import Cluster

TWO = STUDY.replace("seeds: [0, 1]", "seeds: [0]").replace("workers: 2", "workers: auto")
PATIENCE = 300  # seconds: Ray starts many processes, and the machine may be busy


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster whose head runs nothing, and two machines of a CPU and (as if) a GPU each."""
    small = {"object_store_memory": 2**27, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 starves on a busy machine
        patch.setenv("STANDIN_SECONDS", "2")
        try:
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        except Exception as error:  # of whatever kind: Ray wants ports and shared memory
            pytest.skip(f"Ray cannot start a cluster here: {error}")
        for _ in range(2):
            cluster.add_node(num_cpus=1, num_gpus=1, **small)
    yield cluster.address
    cluster.shutdown()


def machine_of(run: Path) -> psutil.Process:
    """The process that stands for the machine on which a run is trained."""
    trains = [process for process in of_study(run) if "train" in process.cmdline()]
    return next(each for each in trains[0].parents() if each.name() == "raylet")


def test_a_lost_machine_loses_no_work(address: str, tmp_path: Path) -> None:
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    seed = out / "runs" / "ours" / "seed-0"
    process = start(study, out, "--executor", "ray", RAY_ADDRESS=address)
    until((seed / "metrics.jsonl").is_file, process, PATIENCE)
    machine_of(seed).kill()
    code, output = ended(process, PATIENCE)
    assert code == 0, output
    assert "train ours seed 0: Task failed because the node" in output and "trying again" in output
    log = (out / "logs" / "train-ours-seed-0.txt").read_text()
    assert log.count("GPUs '0', threads 1") == 2
    assert log.count("$ likewise train") == 2 and "$ likewise train --resume" in log
    launches = [json.loads(line) for line in (out / "logs" / "units.jsonl").open()]
    ends = [(one["code"], one["resumed"]) for one in launches if one["unit"] == "train ours seed 0"]
    assert ends == [(1, False), (0, True)]
    assert not list((out / "logs").glob(".launch-*")) and not of_study(out)
    code, calm = finish(study, tmp_path / "calm")
    assert code == 0, calm
    assert timeless(out) == timeless(tmp_path / "calm")


def test_a_signal_stops_tasks_at_a_checkpoint(address: str, tmp_path: Path) -> None:
    """On the machine that is left: one unit at a time."""
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    words = ("--executor", "ray", "--only", "train")
    process = start(study, out, *words, RAY_ADDRESS=address)
    run = out / "runs" / "ours" / "seed-0"
    until((run / "metrics.jsonl").is_file, process, PATIENCE)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process, PATIENCE)
    assert code == 128 + signal.SIGTERM, output
    assert "train ours seed 0: stopped" in output and "failed" not in output
    assert list((run / "checkpoints").glob("iteration-*")) and not of_study(out)


def test_what_fits_no_machine_is_refused(address: str, tmp_path: Path) -> None:
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    words = ("--executor", "ray", "--gpus", "2")
    code, output = finish(study, out, *words, RAY_ADDRESS=address)
    assert code == 2 and "no machine of the Ray cluster has 1 CPUs and 2 GPUs" in output
    assert not out.exists()
