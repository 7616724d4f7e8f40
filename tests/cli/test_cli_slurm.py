"""`compare --executor slurm`: the `srun` is a stand-in, and so are the units.

The scenarios of both were played by hand on Slurm 22.05 and ended as here: the second in a
partition of one CPU, the first with SLURM_TIMELIMIT=1 and units that take longer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from comparing import STUDY, ended, of_study, start, until, write_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
SRUN = Path(__file__).parents[1] / "study" / "standin_srun.py"
TWO = STUDY.replace("seeds: [0, 1]", "seeds: [0]").replace("workers: 2", "workers: auto")
WORDS = ("--executor", "slurm", "--only", "train", "--cpus", "2")


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment with an `srun`."""
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {SRUN} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SRUN_SLOT": str(tmp_path / "slot"), "STANDIN_SECONDS": "1"}


def test_a_time_limit_is_no_end(slurm: dict[str, str], tmp_path: Path) -> None:
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    when = out / "runs" / "ours" / "seed-0" / "metrics.jsonl"
    slurm |= {"SRUN_LIMIT": str(tmp_path / "limit"), "SRUN_WHEN": str(when)}
    code, output = ended(start(study, out, *WORDS, **slurm), 300)
    assert code == 0, output
    assert "train ours seed 0: Slurm: DUE TO TIME LIMIT; trying again" in output
    launches = [json.loads(line) for line in (out / "logs" / "units.jsonl").open()]
    ends = [(one["code"], one["resumed"]) for one in launches if one["unit"] == "train ours seed 0"]
    assert ends == [(128 + signal.SIGTERM, False), (0, True)]
    asked = (tmp_path / "slot").read_text().splitlines()
    assert len(asked) == 3 and all(
        "--ntasks=1 --exact --cpus-per-task=2 --gpus-per-node=1 --job-name=tiny: train" in one
        for one in asked
    )


def test_waiting_units_are_cancelled_and_running_ones_save(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    process = start(study, out, *WORDS, **slurm)
    until(lambda: any(out.glob("runs/*/seed-0/metrics.jsonl")), process, 120)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process, 120)
    assert code == 128 + signal.SIGTERM, output
    assert output.count(": stopped") == 2 and "failed" not in output
    assert len(list(out.glob("runs/*/seed-0/checkpoints/iteration-*"))) == 1
    assert not of_study(out) and not list((out / "logs").glob(".launch-*"))
