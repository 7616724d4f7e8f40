"""Checks, signals, evaluation, processes, clock and what the user sees."""

from __future__ import annotations

import io
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from rich.console import Console
from rolling import LinearPolicy, sampler, some_tasks
from tiny import a_task, make_policy, photo

from likewise.api.training import settle
from likewise.config import load_recipe
from likewise.devices import dtype_of
from likewise.rewards.function import FunctionReward
from likewise.rollout.scoring import to_pil
from likewise.rollout.trajectories import draw_images
from likewise.seeding import derive_seed
from likewise.trainer.checks import Patience, TrainingError, check_ratio
from likewise.trainer.clock import Clock, peak_memory_mb
from likewise.trainer.evaluation_set import evaluate, gain, grid
from likewise.trainer.interrupts import Interrupts
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress
from likewise.types import Task

CPU = torch.device("cpu")

# ── checks ──


@pytest.mark.parametrize("deviation, tolerance", [(0.0, 0.0), (1e-5, 1e-5), (1e-6, 1e-5)])
def test_a_ratio_within_tolerance_passes(deviation: float, tolerance: float) -> None:
    check_ratio(deviation, tolerance)


@pytest.mark.parametrize("deviation", [1e-7, 0.5, math.inf, math.nan])
def test_any_other_ratio_ends_the_run(deviation: float) -> None:
    with pytest.raises(TrainingError, match=r"differ from 1 .*ratio_tolerance = 0\)"):
        check_ratio(deviation, 0.0)


def test_patience_counts_iterations_in_a_row() -> None:
    patience = Patience(3)
    credited = (False, False, True, False, False, False)
    assert [patience.should_stop(one) for one in credited] == [False] * 5 + [True]
    message = str(patience.error({"a": "down", "b": "timeout"}))
    assert "in 3 iterations in a row (run.patience = 3). a: down; b: timeout" in message
    assert "Rewards are missing or equal inside every group" in str(patience.error({}))


# ── signals ──


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with Interrupts() as interrupts:
        assert interrupts.received == 0
        os.kill(os.getpid(), number)
        for _ in range(100):
            if interrupts.received:
                break
            time.sleep(0.01)
        assert interrupts.received == number
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert interrupts.received == number


def test_a_second_interrupt_acts_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # only noted
        assert interrupts.received
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError), Interrupts():
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is before


def test_every_signal_is_passed_on() -> None:
    seen: list[int] = []
    with Interrupts(seen.append):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert seen == [signal.SIGTERM] * 2


def test_outside_the_main_thread_signals_act_as_ever() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts:
            inside.append(signal.getsignal(signal.SIGTERM))
        inside.append(interrupts.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before, 0] and signal.getsignal(signal.SIGTERM) is before


# ── evaluation ──


@pytest.fixture(scope="module")
def alone() -> Processes:
    return Processes(Accelerator(cpu=True))


def brightness(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
    table = [sum(image.convert("L").tobytes()) / (image.width * image.height) for image in images]
    return [None if "beach" in task.prompt else value
            for value, task in zip(table, tasks, strict=True)]  # fmt: skip


def broken(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    raise RuntimeError("down")


@pytest.mark.parametrize("make", [LinearPolicy, make_policy], ids=["linear", "tiny"])
def test_evaluation_by_hand(make: Any, alone: Processes) -> None:
    policy, tasks = make(), some_tasks(5)
    scorers = {"light": FunctionReward(brightness), "down": FunctionReward(broken)}
    numbers, images = evaluate(policy, sampler(policy, 2), scorers, tasks, 2, alone)
    own = [
        to_pil(draw_images(policy, sampler(policy, 2), [task], 1,
                             lambda one: derive_seed("evaluation", one.id)))[0]
        for task in tasks
    ]  # fmt: skip
    for ours, theirs in zip(images, own, strict=True):
        difference = torch.tensor(list(ours.tobytes())) - torch.tensor(list(theirs.tobytes()))
        assert difference.abs().max() <= 1  # rounding may tip a pixel
    known = [v for v in brightness(images, tasks) if v is not None]
    assert len(known) == 4
    assert numbers == {
        "eval/light": pytest.approx(float(torch.tensor(known).mean())),
        "eval/light/std": pytest.approx(float(torch.tensor(known).std()), rel=1e-4),
        "eval/down": None,
        "eval/down/std": None,
    }


def test_evaluations_repeat_and_ignore_order(alone: Processes) -> None:
    policy, tasks = LinearPolicy(), some_tasks(4)
    how, light = sampler(policy), {"light": FunctionReward(brightness)}
    first, images = evaluate(policy, how, light, tasks, 3, alone)
    again, same = evaluate(policy, how, light, tasks, 2, alone)
    _, backwards = evaluate(policy, how, light, tasks[::-1], 4, alone)
    assert first == again
    data = [[one.tobytes() for one in some] for some in (images, same, backwards[::-1])]
    assert data[0] == data[1] == data[2]
    assert len(set(data[0])) == 4
    (one,) = some_tasks(1)
    assert evaluate(policy, how, light, [one], 2, alone)[0]["eval/light/std"] is None


def test_gain_by_hand() -> None:
    before = {"eval/a": 1.0, "eval/a/std": 0.5, "eval/b": -2.0, "eval/b/std": 4.0, "eval/c": 0.0}
    now = {"eval/a": 2.0, "eval/b": -3.0, "eval/c": 1.0, "eval/a/std": 9.0}
    assert gain(["a"], before, now) == pytest.approx(2.0)
    assert gain(["a", "b"], before, now) == pytest.approx((2.0 - 0.25) / 2)
    assert gain(["b"], before, {"eval/b": -2.0}) == 0.0
    assert gain(["a", "c"], before, now) is None  # no spread is known
    assert gain(["a"], {**before, "eval/a/std": 0.0}, now) is None
    assert gain(["a"], before, {"eval/a": None}) is None
    assert gain(["a"], {}, now) is gain(["a"], before, {}) is None


@pytest.mark.parametrize("count, columns, rows", [(1, 1, 2), (8, 8, 2), (9, 8, 4), (20, 8, 6)])
def test_the_grid_has_references_above_each_row_of_images(
    count: int, columns: int, rows: int
) -> None:
    tasks = [a_task(f"a duck {n}", photo(10, 10, n)) for n in range(count)]
    images = [Image.new("RGB", (16, 16), (n, 200, 0)) for n in range(count)]
    sheet = grid(tasks, images)
    cell, margin, caption = 128, 4, 14
    height = cell + margin + caption
    assert sheet.size == (columns * (cell + margin), rows * height)
    for n in range(count):
        row, column = divmod(n, 8)
        middle = (column * (cell + margin) + 64, (2 * row + 1) * height + caption + 64)
        assert sheet.getpixel(middle) == (n, 200, 0)


# ── one process ──


def test_one_process_exchanges_with_itself(alone: Processes) -> None:
    assert (alone.count, alone.index, alone.is_main) == (1, 0, True)
    assert alone.gather([1, "two", None]) == [1, "two", None]
    assert alone.gather([[1, 2]]) == [[1, 2]]
    assert torch.equal(alone.sum(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    assert alone.any(True) and not alone.any(False)
    parameter = torch.nn.Parameter(torch.ones(2))
    alone.same_start([parameter])
    assert parameter.tolist() == [1, 1] and parameter.requires_grad
    alone.wait()


# ── clock ──


def test_the_clock_adds_up_phases() -> None:
    clock = Clock(CPU)
    for _ in range(2):
        with clock.phase("draw"):
            time.sleep(0.02)
    with pytest.raises(ValueError), clock.phase("fail"):
        raise ValueError
    row = clock.row()
    assert row.keys() == {"seconds/draw", "seconds/fail", "seconds/total", "peak_memory_mb"}
    assert 0.04 <= row["seconds/draw"] <= row["seconds/total"]
    assert row["seconds/fail"] >= 0
    assert 50 < row["peak_memory_mb"] < 1e6  # torch alone is more than 50 MB
    assert peak_memory_mb(CPU) >= row["peak_memory_mb"]


# ── progress ──


def shown(rewards: Sequence[str], *calls: tuple[Any, ...]) -> str:
    text = io.StringIO()
    progress = Progress(rewards, 10, Console(file=text, width=200))
    for name, *arguments in calls:
        getattr(progress, name)(*arguments)
    return text.getvalue()


def test_one_line_per_iteration() -> None:
    row = {
        "reward/text/mean": 0.25, "reward/look/mean": 0.5, "reward/other/mean": 1.0,
        "conflict_rate": 0.375, "update/loss": 1.0,
    }  # fmt: skip
    line = shown(["text", "look"], ("show", 3, row, {"seconds/total": 2.0}))
    assert line == "   3/10  text 0.2500  look 0.5000  conflict 38%  2.0 s  14 s left\n"


def test_what_is_unknown_is_left_out() -> None:
    row = {"reward/text/mean": None, "conflict_rate": None}
    assert shown(["text"], ("show", 1, row, {})) == "   1/10\n"


def test_evaluations_have_a_line_of_their_own() -> None:
    row = {"eval/text": 0.5, "eval/text/std": 0.1, "eval/evaluator/dino": 0.75, "eval/gone": None}
    lines = shown(["text"], ("show", 0, row, {})).splitlines()
    assert lines == ["   0/10", "      evaluation  text 0.5000  evaluator/dino 0.7500"]


def test_time_left_follows_the_last_ten_iterations() -> None:
    calls = [("show", n, {}, {"seconds/total": 1000.0 if n == 0 else 60.0}) for n in range(11)]
    lines = shown([], *calls[:6]).splitlines()
    assert lines[0].endswith("167 min left")
    assert lines[1].endswith("80 min left")  # 9 · (1000 + 60)/2 s
    assert shown([], *calls).splitlines()[10].endswith("0 s left")


def test_names_and_messages_are_no_markup() -> None:
    text = shown(["[red]"], ("show", 1, {"reward/[red]/mean": 1.0}, {}), ("warn", "[b]x[/b]"))
    assert "[red] 1.0000" in text and "warning: [b]x[/b]\n" in text


def test_the_log_has_every_line_without_colours(tmp_path: Path) -> None:
    console = Console(record=True, file=io.StringIO(), force_terminal=True, width=30)
    progress = Progress(["text"], 10, console)
    progress.warn("from before there was a log")
    progress.keep(tmp_path / "log.txt")
    row = {"reward/text/mean": 0.25, "conflict_rate": 0.5, "eval/text": 1.0, "eval/look": 2.0}
    progress.show(1, row, {"seconds/total": 1.0})
    progress.warn("a [long] line " * 5)
    lines = [
        "warning: from before there was a log",
        "   1/10  text 0.2500  conflict 50%  1.0 s  9 s left",
        "      evaluation  text 1.0000  look 2.0000",
        "warning: " + "a [long] line " * 5,
    ]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines() == lines
    assert console.export_text().splitlines() == lines  # nor is a line broken


def test_a_run_keeps_the_dtype_that_its_machine_chose() -> None:
    chosen = settle(load_recipe("stickers", ["run.trackers=[]", "run.device=cpu"])).policy.dtype
    assert chosen == str(dtype_of("auto", "cpu")).removeprefix("torch.")
