"""Where units run, and what becomes of their processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from likewise.cores import usable_cores
from likewise.study.workers import Worker, find_workers

CHILD = [sys.executable, "-m", "likewise.study.child"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl and affinities")


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_one_worker_per_core_with_one_thread(no_gpus: None) -> None:
    cores = usable_cores()
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert find_workers("auto", "auto") == [Worker(f"core {core}", core, alone) for core in cores]
    assert [worker.core for worker in find_workers(len(cores) + 1, "cpu")] == [*cores, cores[0]]


def test_one_worker_per_gpu_unless_the_study_is_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    workers = find_workers("auto", "auto")
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["2", "5"]
    assert [worker.core for worker in workers] == [None, None]
    assert [worker.name for worker in find_workers(3, "cuda")] == ["GPU 2", "GPU 5", "GPU 2"]
    assert find_workers("auto", "cpu")[0].name.startswith("core")


def test_gpus_are_counted_by_the_driver_s_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: a)'\necho 'GPU 1: H100 (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [worker.name for worker in find_workers("auto", "auto")] == ["GPU 0", "GPU 1"]
    program.write_text("#!/bin/sh\necho 'no driver' >&2; exit 9\n")
    assert find_workers("auto", "auto")[0].name.startswith("core")


@linux
def test_a_child_stays_on_its_core_and_passes_on_exit_codes() -> None:
    core = usable_cores()[-1]
    code = "import os, sys; print(os.sched_getaffinity(0)); sys.exit(7)"
    words = [str(os.getpid()), str(core), sys.executable, "-c", code]
    done = subprocess.run([*CHILD, *words], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (f"{{{core}}}", 7)


@linux
def test_a_child_of_another_parent_does_not_start() -> None:
    words = [str(os.getpid() + 1), "-", sys.executable, "-c", "print('started')"]
    done = subprocess.run([*CHILD, *words], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 1)


@linux
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import os, subprocess, sys\n"
        f"words = [str(os.getpid()), '-', sys.executable, '-c', {child!r}]\n"
        f"subprocess.run([*{CHILD!r}, *words])"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + 30
    while not (file.is_file() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    grandchild = psutil.Process(int(file.read_text()))
    process.kill()
    process.wait()
    grandchild.wait(10)
