"""A run directory: rows, tables, the lock, and forgetting what a killed launch wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.config import Recipe, load_recipe
from likewise.records import RunDirectory, RunDirectoryError


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    rewards = {"prompt": {"kind": "clip"}, "identity": {"kind": "dino"}}
    return Recipe.model_validate({"name": "test", "rewards": rewards})


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs" / "one", recipe, {"python": "3.11", "ü": None})


# --- making and opening --------------------------------------------------------------------------


def test_create_then_open(run: RunDirectory, recipe: Recipe) -> None:
    again = RunDirectory.open(run.path)
    assert again.recipe == recipe == load_recipe(run.path / "recipe.yaml")
    assert again.environment == {"python": "3.11", "ü": None}
    assert again.checkpoints == run.path / "checkpoints" and again.checkpoints.is_dir()
    assert again.log == run.path / "log.txt"
    assert again.sample_path(12) == run.path / "samples" / "000012.png"
    assert again.sample_path(12, "") == run.path / "samples" / "000012"
    assert again.sample_path(12).parent.is_dir()
    assert again.read_metrics() == again.read_timings() == []
    assert again.read_rewards().num_rows == 0


def test_create_takes_an_empty_folder(tmp_path: Path, recipe: Recipe) -> None:
    assert RunDirectory.create(tmp_path, recipe, {}).recipe == recipe


@pytest.mark.parametrize("what", ["run", "stranger", "file"])
def test_create_never_touches_what_is_there(
    run: RunDirectory, recipe: Recipe, tmp_path: Path, what: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("")
    run.append_metrics({"iteration": 1})
    paths = {"run": run.path, "stranger": tmp_path / "folder", "file": tmp_path / "folder"}
    path = paths[what] / "thesis.tex" if what == "file" else paths[what]
    before = sorted(tmp_path.rglob("*"))
    words = "empty folder: go on .* --resume .*, or choose" if what == "run" else "folder: choose"
    with pytest.raises(RunDirectoryError, match=f"{words} another --run-dir"):
        RunDirectory.create(path, recipe, {})
    assert sorted(tmp_path.rglob("*")) == before


LEARNED = ["checkpoints/iteration-000001", "rewards/000001.parquet", "samples/000002.png"]
LEARNED += ["checkpoints/damaged-iteration-000001", "evaluation", "photo.png", "torn metrics"]


@pytest.mark.parametrize("where", LEARNED)
def test_a_folder_with_anything_learned_is_kept(
    run: RunDirectory, recipe: Recipe, where: str
) -> None:
    if where == "torn metrics":
        (run.path / "metrics.jsonl").write_text("torn\n")
    else:
        (run.path / where).mkdir()
    with pytest.raises(RunDirectoryError, match="is not an empty folder"):
        RunDirectory.create(run.path, recipe, {})


@pytest.mark.parametrize("with_recipe", [True, False])
def test_a_folder_that_holds_nothing_learned_may_be_used_again(
    run: RunDirectory, recipe: Recipe, with_recipe: bool
) -> None:
    run.append_metrics({"iteration": 0})
    run.log.write_text("warning: no photos\n")
    run.sample_path(0).write_text("png")
    for name in ("trackers", "rewards/.tmp-1", "checkpoints/.tmp-0-1"):
        (run.path / name).mkdir()
    if not with_recipe:
        (run.path / "recipe.yaml").rename(run.path / ".tmp-recipe.yaml-1")
    other = recipe.model_copy(update={"seed": 1})
    again = RunDirectory.create(run.path, other, {})
    assert again.recipe == other and again.environment == {} and again.read_metrics() == []
    left = {str(path.relative_to(run.path)) for path in run.path.rglob("*")}
    own = {"recipe.yaml", "environment.json", ".lock", "checkpoints", "rewards", "samples"}
    assert left == own


def test_a_folder_where_a_run_begins_is_not_started_in(run: RunDirectory, recipe: Recipe) -> None:
    with run.lock(), pytest.raises(RunDirectoryError, match="is in use"):
        RunDirectory.create(run.path, recipe.model_copy(update={"seed": 1}), {})
    assert run.recipe == recipe


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="there is no run directory"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"no recipe\.yaml"):
        RunDirectory.open(tmp_path)


# --- metrics and timings -------------------------------------------------------------------------


def test_rows_come_back_exactly_and_in_order(run: RunDirectory) -> None:
    rows = [{"iteration": i, "z": 0.1 + i / 3, "a": None, "n": 2**60, "s": 5e-324} for i in (0, 1)]
    for row in rows:
        run.append_metrics(row)
    assert run.read_metrics() == rows
    assert [list(row) for row in run.read_metrics()] == [["iteration", "z", "a", "n", "s"]] * 2
    run.append_timings({"iteration": 0, "seconds": 1.5})
    assert run.read_timings() == [{"iteration": 0, "seconds": 1.5}]
    assert run.read_metrics() == rows


def test_not_a_number_becomes_null_and_numpy_becomes_plain(run: RunDirectory) -> None:
    infinity = float("inf")
    row = {"iteration": np.int64(3), "a": float("nan"), "b": infinity, "c": -infinity}
    run.append_metrics({**row, "d": np.float32(0.1), "e": np.float64("nan")})
    expected = '{"iteration": 3, "a": null, "b": null, "c": null, "d": 0.10000000149011612, '
    assert (run.path / "metrics.jsonl").read_text() == expected + '"e": null}\n'


@pytest.mark.parametrize("row", [{}, {"loss": 1.0}, {"iteration": None}, {"iteration": 1.0}])
def test_a_row_needs_its_iteration(run: RunDirectory, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a row needs its iteration"):
        run.append_metrics(row)


@pytest.mark.parametrize("value", ["text", [1.0], np.zeros(1)])
def test_a_value_must_be_a_number(run: RunDirectory, value: Any) -> None:
    with pytest.raises(TypeError, match="loss must be a number"):
        run.append_metrics({"iteration": 1, "loss": value})
    assert run.read_metrics() == []


@pytest.mark.parametrize("tail", ['{"iteration": 2, "lo', '{"iteration": 2}', "\x00\x00", "ü"])
def test_a_torn_last_line_is_ignored_and_written_over(run: RunDirectory, tail: str) -> None:
    run.append_metrics({"iteration": 1})
    file = run.path / "metrics.jsonl"
    with file.open("ab") as lines:
        lines.write(tail.encode()[: 1 if tail == "ü" else None])
    assert run.read_metrics() == [{"iteration": 1}]
    run.append_metrics({"iteration": 2})
    assert file.read_text() == '{"iteration": 1}\n{"iteration": 2}\n'


def test_a_file_that_is_one_torn_line(run: RunDirectory) -> None:
    (run.path / "metrics.jsonl").write_text('{"iter')
    assert run.read_metrics() == []
    run.append_metrics({"iteration": 1})
    assert run.read_metrics() == [{"iteration": 1}]


BAD = ['{"iteration": 2, "lo', "17", '{"loss": 1}', "NaN", '{"iteration": true}', "[" * 9**5]
BAD += ['{"iteration": 1e400}', '{"iteration": -1}', '{"iteration": 2, "loss": [1]}', "\x00\x00"]
BAD += ['{"iteration": 1, "loss": 2}', '{"iteration": 2, "loss": "1"}', '{"iteration": 0}']


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_line_elsewhere_is_an_error(run: RunDirectory, bad: str) -> None:
    text = f'{{"iteration": 1}}\n{bad}\n{{"iteration": 3}}\n'
    (run.path / "metrics.jsonl").write_text(text)
    for read in (run.read_metrics, lambda: run.forget_after(1)):
        with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: "):
            read()
    assert (run.path / "metrics.jsonl").read_text() == text


def test_what_editors_and_copying_do_is_read_over_and_repaired(run: RunDirectory) -> None:
    rows = [{"iteration": 1, "loss": 0.5}, {"iteration": 2, "loss": 0.25}]
    one, two = (json.dumps(row) for row in rows)
    file = run.path / "metrics.jsonl"
    file.write_bytes(f"\ufeff{one}\r\n\r\n{one}\r\n{two}\r\n{one}\n\n{two}\n".encode())
    assert run.read_metrics() == rows
    run.forget_after(2)
    assert file.read_text() == f"{one}\n{two}\n"


def test_numbers_that_no_float_can_hold_are_missing(run: RunDirectory) -> None:
    text = f'{{"iteration": 1, "a": 1e400, "b": NaN, "c": {10**400}, "d": 2}}\n'
    (run.path / "metrics.jsonl").write_text(text)
    assert run.read_metrics() == [{"iteration": 1, "a": None, "b": None, "c": None, "d": 2}]


@pytest.mark.parametrize(("reached", "left"), [(2, [1, 2]), (1, [1])])
def test_a_last_row_without_its_newline_is_mended_if_learned(
    run: RunDirectory, reached: int, left: list[int]
) -> None:
    """A checkpoint of its iteration says that it was written whole once."""
    (run.path / "metrics.jsonl").write_text('{"iteration": 1}\n{"iteration": 2}')
    run.forget_after(reached)
    assert [row["iteration"] for row in run.read_metrics()] == left


def test_gaps_are_named(run: RunDirectory) -> None:
    fill(run, range(8))
    assert run.gaps(7) == run.gaps(0) == []
    rows = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join([*rows[:2], *rows[4:6], rows[7][:9]]))
    (run.path / "timings.jsonl").unlink()
    (run.path / "rewards" / "000004.parquet").unlink()
    assert run.gaps(7) == [
        "metrics.jsonl lacks iterations 2–3, 6–7",
        "timings.jsonl lacks all 7 iterations",
        "rewards/ lacks iteration 4",
    ]


# --- rewards -------------------------------------------------------------------------------------


def test_reward_tables(run: RunDirectory) -> None:
    run.write_rewards(2, {"task": ["a", "b"], "clip": [0.5, None], "dino": [None, None]})
    run.write_rewards(10, {"task": ["c"], "clip": [0.25], "dino": [1.0], "new": [1]})
    one = run.read_rewards(2).to_pydict()
    assert one["iteration"] == [2, 2] and one["clip"] == [0.5, None]
    assert run.read_rewards().to_pydict() == {
        "iteration": [2, 2, 10],
        "task": ["a", "b", "c"],
        "clip": [0.5, None, 0.25],
        "dino": [None, None, 1.0],
        "new": [None, None, 1],
    }
    run.write_rewards(2, {"iteration": [2], "task": ["z"]})
    assert run.read_rewards(2).to_pydict() == {"iteration": [2], "task": ["z"]}
    assert sorted(os.listdir(run.path / "rewards")) == ["000002.parquet", "000010.parquet"]
    with pytest.raises(FileNotFoundError, match=r"000003\.parquet"):
        run.read_rewards(3)
    with pytest.raises(ValueError):
        run.write_rewards(4, {"a": [1], "b": [1, 2]})


def test_equal_rewards_are_equal_files_whatever_the_folder(tmp_path: Path, recipe: Recipe) -> None:
    files = []
    for name in ("lr=0.1", "plain"):
        run = RunDirectory.create(tmp_path / name, recipe, {})
        run.write_rewards(0, {"clip": np.linspace(0, 1, 50)})
        assert run.read_rewards(0).column_names == ["iteration", "clip"]
        files.append((run.path / "rewards" / "000000.parquet").read_bytes())
    assert files[0] == files[1]


# --- resuming ------------------------------------------------------------------------------------


def fill(run: RunDirectory, iterations: range) -> None:
    for iteration in iterations:
        run.append_metrics({"iteration": iteration, "loss": iteration / 7})
        run.append_timings({"iteration": iteration, "seconds": 1.0})
        run.write_rewards(iteration, {"clip": [float(iteration)]})
        run.sample_path(iteration).write_text("png")
        run.sample_path(iteration, "").mkdir()
        (run.sample_path(iteration, "") / "0.png").write_text("png")


def everything(run: RunDirectory) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(run.path)): path.read_bytes() if path.is_file() else None
        for path in sorted(run.path.rglob("*"))
    }


def test_forget_after_leaves_the_run_as_it_was_then(tmp_path: Path, recipe: Recipe) -> None:
    killed = RunDirectory.create(tmp_path / "killed", recipe, {})
    stopped = RunDirectory.create(tmp_path / "stopped", recipe, {})
    fill(killed, range(8))
    fill(stopped, range(6))
    for name in ("metrics.jsonl", "timings.jsonl"):
        with (killed.path / name).open("a") as lines:
            lines.write('{"iteration": 8, "lo')
    for folder in (killed.path, killed.path / "rewards", killed.path / "samples"):
        (folder / ".tmp-leftover-1").write_text("")
    for name in ("000007-0.png", "notes.txt", "12.png"):
        (killed.path / "samples" / name).write_text("")
    killed.forget_after(5)
    assert everything(killed) == everything(stopped) | {
        "samples/notes.txt": b"",
        "samples/12.png": b"",
    }
    killed.forget_after(5)
    fill(killed, range(6, 7))
    assert [row["iteration"] for row in killed.read_metrics()] == list(range(7))
    killed.forget_after(-1)
    assert killed.read_metrics() == [] and killed.read_rewards().num_rows == 0


def test_late_numbers_give_the_row_that_early_ones_would_have(
    tmp_path: Path, recipe: Recipe
) -> None:
    early = RunDirectory.create(tmp_path / "early", recipe, {})
    late = RunDirectory.create(tmp_path / "late", recipe, {})
    own, evaluation = {"loss": 1 / 3, "lost": None}, {"eval/a": 0.1 + 0.2, "eval/b": float("nan")}
    for iteration in (0, 1):
        early.append_metrics({"iteration": iteration, **own, **evaluation})
        late.append_metrics({"iteration": iteration, **own})
    for iteration in (1, 0):
        late.extend_metrics(iteration, evaluation)
    assert everything(late)["metrics.jsonl"] == everything(early)["metrics.jsonl"]
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no row of iteration 2"):
        late.extend_metrics(2, evaluation)


def test_forget_after_on_a_run_that_wrote_nothing(run: RunDirectory) -> None:
    before = everything(run)
    run.forget_after(3)
    assert everything(run) == before


# --- one process at a time -----------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from likewise.records import RunDirectory
with RunDirectory.open(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_lock_keeps_others_out_and_dies_with_its_process(run: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"locked\n"
        message = f"{run.path} is in use: process {child.pid}"
        with pytest.raises(RunDirectoryError, match=message), run.lock():
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    with run.lock() as held:
        assert held is run
        second = subprocess.run(command, input=b"", capture_output=True)
        assert second.returncode == 1 and f"process {os.getpid()} trains".encode() in second.stderr
        with pytest.raises(RunDirectoryError), RunDirectory.open(run.path).lock():
            pass
    with run.lock():
        pass


def test_the_lock_is_free_after_an_error_and_restores_folders(run: RunDirectory) -> None:
    (run.path / "samples").rmdir()
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock():
        run.sample_path(1).write_text("")


def test_everything_works_without_torch(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from likewise.config import Recipe
from likewise.records import *
assert "pyarrow" not in sys.modules and "pydantic" in sys.modules
rewards = {"prompt": {"kind": "clip"}, "identity": {"kind": "dino"}}
recipe = Recipe.model_validate({"name": "a", "rewards": rewards})
run = RunDirectory.create(Path(sys.argv[1]) / "run", recipe, collect_environment())
run = RunDirectory.open(run.path)
with run.lock():
    run.append_metrics({"iteration": 0})
    run.write_rewards(0, {"clip": [1.0]})
    CheckpointStore(run.checkpoints, 1).save(0, lambda folder: None)
    run.forget_after(0)
run.recipe, run.read_metrics(), run.read_rewards(), CheckpointStore(run.checkpoints, 1).newest()
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == 0
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["command"][0] == "-c"
