"""The client: what fails is missing and counted, a run goes on, and nobody waits for too long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi")
from faults import FAULTS, HANG, Answering, Front
from PIL import Image
from pydantic import ValidationError
from serving import free_port, full_task, make_image, mean, served

from likewise.api import train
from likewise.builders.rewards import check_reachable
from likewise.config.rewards import Remote
from likewise.protocols import Reward, SlowReward
from likewise.records.run_directory import RunDirectory
from likewise.rewards import remote as remote_module
from likewise.rewards.function import FunctionReward
from likewise.rewards.remote import PendingScores, RemoteReward
from likewise.rewards.service.breaker import Breaker
from likewise.rewards.service.exchange import KINDS
from likewise.rollout.scoring import Asked, score_images
from likewise.serve.app import create_app
from likewise.types import Task

FOUR = [make_image(n) for n in range(4)], [full_task(n) for n in range(4)]
SECRET = "a-token-that-must-not-be-seen"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries after a tenth of the usual time."""
    usual = remote_module.backoff
    monkeypatch.setattr(remote_module, "backoff", lambda attempt: usual(attempt) / 10)


def remote(url: str, **settings: Any) -> RemoteReward:
    return RemoteReward(Remote(url=url, side="prompt", **settings))


def ask(reward: RemoteReward) -> tuple[list[bool], dict[str, float], PendingScores]:
    """Valid, counts that are not 0, and all else, about four images."""
    pending = reward.submit(*FOUR)
    values, valid = pending.result(time.monotonic())
    wanted = torch.tensor(mean(FOUR[0], FOUR[1]), dtype=torch.float32)
    assert torch.equal(values[valid], wanted[valid])
    known = {key.removeprefix("failed/"): count for key, count in pending.counts.items() if count}
    assert set(known) <= set(KINDS) and len(pending.counts) == len(KINDS)
    return valid.tolist(), known, pending


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("error", "error"),
        ("busy", "busy"),
        ("hang", "timeout"),
        ("reset", "unreachable"),
        ("garbage", "unreachable"),
        ("truncated", "garbage"),
        ("nan", "garbage"),
        ("few", "garbage"),
        ("endless", "garbage"),
    ],
)
def test_each_fault_is_tried_again_and_counted(fault: str, kind: str) -> None:
    with served(create_app(mean)) as url:
        port = int(url.rsplit(":", 1)[1])
        with Front(port, [fault, fault, "ok"]) as front:
            reward = remote(front.url, timeout=0.5 if fault == "hang" else 20, retries=2)
            valid, counts, pending = ask(reward)
            assert valid == [True] * 4 and counts == {kind: 2} and pending.problem == ""
        with Front(port, [fault]) as front:
            reward = remote(front.url, timeout=0.5 if fault == "hang" else 20, retries=1)
            valid, counts, pending = ask(reward)
            assert valid == [False] * 4 and counts == {kind: 2}
            said = f"no answer about 4 images from {front.url} ({kind} 2); the last: {kind}: "
            assert pending.problem.startswith(said)
            scores = score_images({"far": reward}, *FOUR)
            assert not scores.valid.any() and scores.counts["far"][f"failed/{kind}"] == 2
            assert scores.failures["far"].startswith("no answer about 4 images")


def test_a_request_that_is_refused_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def talkative(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        raise RuntimeError(f"no {SECRET}")

    monkeypatch.setenv("MY_TOKEN", SECRET)
    with served(create_app(mean, token="another one")) as url:
        valid, counts, pending = ask(remote(url, token_env="MY_TOKEN"))
        assert valid == [False] * 4 and counts == {"refused": 1} and SECRET not in pending.problem
    with served(create_app(talkative)) as url:
        valid, counts, pending = ask(remote(url, token_env="MY_TOKEN", retries=0))
        assert counts == {"error": 1}
        assert SECRET not in pending.problem and "[key]" in pending.problem


@pytest.mark.parametrize("echo", [SECRET[::-1], SECRET.encode().hex()])
def test_an_echo_in_another_form_is_not_quoted(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a body, and where the answer is not HTTP and quoted by the HTTP library."""

    def talkative(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        raise RuntimeError(f"no {echo}")

    monkeypatch.setenv("MY_TOKEN", SECRET)
    with served(create_app(talkative)) as url:
        _, counts, pending = ask(remote(url, token_env="MY_TOKEN", retries=0))
    assert counts == {"error": 1} and "the reward failed" in pending.problem
    assert echo[:8] not in pending.problem
    with Answering(f"{echo} 200 OK\r\nX-Key: {echo}\r\n\r\n".encode()) as url:
        _, counts, pending = ask(remote(url, token_env="MY_TOKEN", retries=0))
    assert counts == {"unreachable": 1} and echo[:8] not in pending.problem


def test_settings_hold_no_secrets() -> None:
    for wrong in (f"http://me:{SECRET}@host", f"http://host/?key={SECRET}", f"ftp://{SECRET}"):
        with pytest.raises(ValidationError) as caught:
            Remote(url=wrong, side="prompt")
        assert SECRET not in caught.value.errors()[0]["msg"]
    with pytest.raises(ValidationError, match="never the key itself"):
        Remote(url="http://host:1", side="prompt", token_env=SECRET)
    assert Remote(url="https://host:1/a/b/", side="prompt").url == "https://host:1/a/b"


def test_who_failed_often_is_left_alone_then_probed() -> None:
    with served(create_app(mean)) as url:
        front = Front(int(url.rsplit(":", 1)[1]), ["ok"])
        reward = remote(front.url, retries=0, batch=1, concurrency=1, break_after=2)
        clock = [0.0]
        reward.breaker.clock = lambda: clock[0]
        assert ask(reward)[1] == {"unreachable": 2, "circuit": 2}
        assert ask(reward)[1] == {"circuit": 4}
        clock[0] = 29.9
        assert ask(reward)[1] == {"circuit": 4}
        clock[0] = 30.1
        assert ask(reward)[1] == {"unreachable": 1, "circuit": 3}  # the probe
        with front:
            assert ask(reward)[1] == {"circuit": 4}
            clock[0] = 60.2
            assert ask(reward)[:2] == ([True] * 4, {})


def test_an_open_circuit_tells_its_cause() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    reward = remote(url, retries=0, break_after=1, break_seconds=60)
    ask(reward)
    _, counts, pending = ask(reward)
    assert counts == {"circuit": 1}
    assert url in pending.problem and "the last: unreachable: ConnectError" in pending.problem


# ── the probe before a run ──


def test_a_dead_service_is_found_before_a_run() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    begun = time.monotonic()
    with pytest.raises(ValueError, match=f"^rewards.far.url: nothing answers at {url}") as caught:
        check_reachable("rewards", {"near": FunctionReward(mean), "far": remote(url, timeout=0.3)})
    assert "ConnectError" in str(caught.value) and time.monotonic() - begun < 10


def test_a_service_that_hangs_is_found_too() -> None:
    with Front(1, ["hang"]) as front, pytest.raises(ValueError, match=r"no answer within"):
        remote(front.url, timeout=0.3).probe()


def test_a_wrong_token_is_found_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    with served(create_app(mean, token="another one")) as url:
        with pytest.raises(ValueError, match=f"token_env: {url}: refused: status 401"):
            remote(url, token_env="MY_TOKEN").probe()
        with pytest.raises(ValueError, match="token_env"):
            remote(url).probe()
    with served(create_app(mean, token=SECRET)) as url:
        remote(url, token_env="MY_TOKEN").probe()


def test_a_service_may_take_a_while_to_come_up() -> None:
    port = free_port()
    reward = remote(f"http://127.0.0.1:{port}", timeout=30)
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(reward.probe)
        time.sleep(0.3)
        assert not probe.done()
        with served(create_app(mean), port):
            probe.result(30)


def test_breaker_by_hand() -> None:
    now = [0.0]
    breaker = Breaker(3, 10, lambda: now[0])
    for _ in range(2):
        breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    now[0] = 10
    assert [breaker.allows(), breaker.allows(), breaker.allows()] == [True, False, False]
    now[0] = 20  # the probe was never heard of again
    assert breaker.allows()
    breaker.failed()
    now[0] = 29.9
    assert not breaker.allows()
    now[0] = 30
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_nobody_waits_past_the_deadline() -> None:
    """One deadline for all questions of an iteration, of all slow rewards together."""
    with Front(1, ["hang"]) as front:
        rewards = {
            name: remote(front.url, deadline=1, timeout=60, batch=1, concurrency=2)
            for name in ("a", "b")
        }
        asked = [Asked(rewards, *FOUR) for _ in range(3)]
        since = time.monotonic()
        scores = [one.scores(since) for one in asked]
        assert time.monotonic() - since < 3
        for one in scores:
            assert not one.valid.any()
            assert one.counts["a"]["failed/deadline"] == one.counts["b"]["failed/deadline"] == 4
    assert HANG > 3


def test_scoring_goes_on_while_others_draw() -> None:
    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        started.set()
        gate.wait(30)
        return mean(images, tasks)

    started, gate = threading.Event(), threading.Event()
    with served(create_app(reward)) as url:
        slow = remote(url)
        assert isinstance(slow, SlowReward) and isinstance(slow, Reward)
        begun = time.monotonic()
        asked = Asked({"slow": slow}, *FOUR)
        assert time.monotonic() - begun < 5 and started.wait(30)
        gate.set()
        assert asked.scores(time.monotonic()).valid.all()


def test_bad_input_is_an_error_here() -> None:
    with pytest.raises(ValueError, match="mode 'L'"):
        remote("http://127.0.0.1:1").score([make_image(1, mode="L")], [full_task(1)])
    with pytest.raises(ValueError, match="one task per image"):
        remote("http://127.0.0.1:1").score([make_image(1)], [])


# ── whole runs ──

DEADLINE = 4.0


def faulty(url: str) -> dict[str, dict[str, Any]]:
    """A remote reward, and the same one computed here: same side, so both count."""
    far = {
        "kind": "remote", "url": url, "side": "prompt", "batch": 4, "retries": 1, "timeout": 1.5,
        "deadline": DEADLINE, "break_after": 4, "break_seconds": 0.5,
    }  # fmt: skip
    near = {"kind": "function", "target": "serving:mean", "side": "prompt"}
    return {"far": far, "near": near}


def check_run(run: RunDirectory, iterations: int) -> dict[str, float]:
    """No failed score is a number, all are counted; returns the counts by kind."""
    counts: dict[str, float] = dict.fromkeys(["missing", *KINDS], 0)
    rows = [row for row in run.read_metrics() if row["iteration"]]
    assert len(rows) == iterations
    for row in rows:
        table = run.read_rewards(row["iteration"]).to_pydict()
        pairs = list(zip(table["reward/far"], table["reward/near"], strict=True))
        for far, near in pairs:
            assert far is None or math.isclose(far, near, rel_tol=1e-6)
        missing = sum(far is None for far, _ in pairs)
        assert row["reward/far/missing"] == row["incomplete"] == missing
        assert row["reward/near/missing"] == 0
        counts["missing"] += missing
        for kind in KINDS:
            counts[kind] += row[f"reward/far/failed/{kind}"]
    return counts


def watch(run_dir: Path, front: Front, down: int, up: int) -> threading.Thread:
    """Take the front down after so many iterations, for two seconds."""

    def work() -> None:
        metrics = run_dir / "metrics.jsonl"
        while not metrics.exists() or len(metrics.read_text().splitlines()) < down:
            time.sleep(0.01)
        front.down()
        time.sleep(up)
        front.up()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_run_survives_everything(tiny_model: Path, tmp_path: Path) -> None:
    import runs

    with served(create_app(mean)) as url, Front(int(url.rsplit(":", 1)[1]), FAULTS) as front:
        recipe = runs.tiny_recipe(
            tiny_model,
            rewards=faulty(front.url),
            credit={"time_weights": {"kind": "constant"}},  # there is one side only
            rollout={"micro_batch": 4},
            run={"iterations": 20, "patience": 20},
        )
        watcher = watch(tmp_path / "run", front, down=8, up=2)
        outcome = train(recipe, tmp_path / "run", quiet=True)
        assert outcome.finished
        watcher.join(30)
        check_faulty(outcome.run, front)
        assert SECRET not in (outcome.run.path / "metrics.jsonl").read_text()


def check_faulty(run: RunDirectory, front: Front) -> None:
    counts = check_run(run, 20)
    assert 0 < counts["missing"] < 20 * 8
    for kind in ("error", "garbage", "unreachable", "timeout"):
        assert counts[kind] > 0, counts
    done = front.seen["error"]  # one whose request was given up meanwhile is not counted
    assert done - counts["deadline"] <= counts["error"] <= done
    waits = [row["seconds/reward"] for row in run.read_timings()]
    assert max(waits) < DEADLINE + 2, waits
