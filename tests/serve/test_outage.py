"""Twenty iterations of the nano generator while its reward service fails in every way it can."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi")
from commands import start, wait_until_healthy
from faults import FAULTS, HANG, Front
from serving import free_port

from likewise.records.run_directory import RunDirectory
from likewise.rewards.service.exchange import KINDS

ITERATIONS, TASKS, GROUP, BATCH = 20, 4, 6, 2
DEADLINE, TIMEOUT = 2.0, 1.5  # seconds
SLACK = 3.0  # seconds: other work on the machine, and the first iteration's look at ratios


class Service:
    """`likewise serve-reward` on one port, in one process after another."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ("serve-reward", "examples.vivid:vivid", "--port", str(self.port))
        self.process: subprocess.Popen[str] = start(*words)
        wait_until_healthy(self.process, self.url)
        assert self.process.poll() is None, self.process.communicate()[0]

    def scored(self) -> float:
        """Images that this process scored so far."""
        text = httpx2.get(f"{self.url}/metrics", trust_env=False).text
        found = re.search(r'images_total\{outcome="scored"\} ([\d.e+]+)', text)
        return float(found[1]) if found else 0

    def end(self) -> None:
        self.process.kill()  # also ends one that is frozen
        self.process.communicate(timeout=30)


def outage(service: Service, wait_for_iteration: Callable[[int], None]) -> float:
    """Freeze the service with requests in it, kill it, start another; what the first had scored."""
    wait_for_iteration(6)
    scored = service.scored()
    service.process.send_signal(signal.SIGSTOP)
    wait_for_iteration(8)
    service.process.kill()  # SIGKILL
    assert service.process.wait(30) == -signal.SIGKILL
    wait_for_iteration(10)
    service.start()
    return scored


@pytest.mark.slow
def test_a_nano_run_outlives_its_service(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    service = Service()
    try:
        with Front(service.port, FAULTS) as front, ThreadPoolExecutor(1) as pool:
            training = start("train", *recipe(front.url), "--run-dir", str(run_dir), "--quiet")

            def wait_for_iteration(number: int) -> None:
                metrics = run_dir / "metrics.jsonl"
                while not metrics.exists() or metrics.read_text().count("\n") < number:
                    assert training.poll() is None, "training ended early"
                    time.sleep(0.02)

            first = pool.submit(outage, service, wait_for_iteration)
            try:
                said, _ = training.communicate(timeout=900)
            finally:
                training.kill()
            assert training.returncode == 0, said
            assert first.result(60) > 0 and service.scored() > 0, "both processes were asked"
        run = RunDirectory.open(run_dir)
        check_failures(check_tables(run), front)
        check_times(run)
        told = [line for line in said.splitlines() if "reward 'far' failed in iteration" in line]
        assert told and "Traceback" not in said
    finally:
        service.end()


def recipe(url: str) -> list[str]:
    """Two rewards of likewise, vivid as computed here, and the same as the service says it."""
    far = {
        "kind": "remote", "url": url, "side": "prompt", "batch": BATCH, "retries": 1,
        "timeout": TIMEOUT, "deadline": DEADLINE, "break_after": 15, "break_seconds": 1,
    }  # fmt: skip
    small = [f"rollout.tasks={TASKS}", f"rollout.group_size={GROUP}", "rollout.num_steps=4"]
    small += ["rollout.micro_batch=8", f"run.iterations={ITERATIONS}", "run.processes=1"]
    small += ["run.evaluation.every=0", "run.trackers=[]", "run.device=cpu"]
    small += ["run.patience=10"]  # the outage outlasts the usual three iterations, on purpose
    fast = ["policy.dtype=float32"]  # without AMX, bfloat16 takes ten times as long
    asked = [f"rewards.far.{key}={value}" for key, value in far.items()]
    return ["examples/vivid.yaml", *small, *fast, *asked]


def check_tables(run: RunDirectory) -> Counter[str]:
    """No failed score is a number anywhere; returns the counts by kind."""
    sums: Counter[str] = Counter()
    metrics = run.read_metrics()
    assert [row["iteration"] for row in metrics] == list(range(1, ITERATIONS + 1))
    for row in metrics:
        table = run.read_rewards(row["iteration"]).to_pylist()
        assert len(table) == TASKS * GROUP
        for one in table:
            check_image(one)
        values = [one["reward/far"] for one in table if one["reward/far"] is not None]
        missing = len(table) - len(values)
        assert row["reward/far/missing"] == row["incomplete"] == missing
        mean, least = row["reward/far/mean"], row["reward/far/min"]
        if values:
            assert math.isclose(mean, sum(values) / len(values), rel_tol=1e-5)
            assert math.isclose(least, min(values), rel_tol=1e-5)
        else:
            assert mean is least is None
        failed = {kind: row[f"reward/far/failed/{kind}"] for kind in KINDS}
        assert missing <= BATCH * sum(failed.values()), "each missing score has its failure"
        sums.update({"missing": missing, **failed})
    print(dict(sums))
    return sums


def check_image(row: dict[str, Any]) -> None:
    """A row of the table: the service's value is the true one or null, and null has no credit."""
    far, near = row["reward/far"], row["reward/vivid"]
    assert near is not None and near > 0  # so that a 0 could not pass for a true value
    assert row["complete"] == (far is not None)
    if far is not None:
        assert math.isclose(far, near, rel_tol=1e-6)
    else:
        credit = [row[name] for name in row if name.startswith(("z/", "advantage/"))]
        assert credit and not any(credit)


def check_failures(counts: Counter[str], front: Front) -> None:
    """Every kind of fault was met, and what the front did is what the run says."""
    assert all(front.seen[fault] for fault in FAULTS), front.seen
    for kind in ("error", "garbage", "unreachable", "timeout", "deadline"):
        assert counts[kind] > 0, counts
    assert 0 < counts["missing"] < ITERATIONS * TASKS * GROUP
    # A try that is given up at the deadline may have been answered already.
    given_up = counts["deadline"]
    for kind, faults in {"error": ["error"], "garbage": ["nan", "truncated"]}.items():
        done = sum(front.seen[fault] for fault in faults)
        assert done - given_up <= counts[kind] <= done, (kind, counts, front.seen)


def check_times(run: RunDirectory) -> None:
    """An iteration takes what it takes without the service, and the deadline, at most."""
    rows = run.read_timings()
    asking_here = min(row["seconds/reward"] for row in rows)  # the local rewards, in this phase
    for row in rows:
        work = sum(row[f"seconds/{phase}"] for phase in ("rollout", "gather", "update"))
        assert row["seconds/total"] <= work + asking_here + DEADLINE + SLACK, row
    print([round(row["seconds/reward"], 2) for row in rows])
    print([round(row["seconds/total"], 2) for row in rows])
    assert DEADLINE < HANG
