"""A process that saves is killed, at random moments and at every single step of a save."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from likewise.records import Checkpoint, CheckpointStore

SAVE = """
import hashlib, os, sys
from pathlib import Path
from likewise.records import CheckpointStore

def write(text):
    def write(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "text").write_text(text)
        (folder / "big").write_bytes(hashlib.sha256(text.encode()).digest() * 10_000)
    return write

store = CheckpointStore(Path(sys.argv[1]), keep=2)
"""

# Every iteration is saved twice: the second time replaces the first.
SAVE_ON_AND_ON = """
found = store.newest()
iteration = 0 if found is None else found.iteration
while True:
    iteration += 1
    for attempt in (1, 2):
        store.save(iteration, write(f"{iteration} {attempt}"), score=-iteration)
        print(iteration, attempt, flush=True)
"""

# Exits without any clean-up, as if killed, just before the N-th operation on the file system.
DIE_AT_EVERY_OPERATION = """
def die_at(step):
    left = step
    def hook(event, details):
        nonlocal left
        if event == "open" or event.startswith(("os.", "shutil.")):
            left -= 1
            if left < 0:
                os._exit(9)
    sys.addaudithook(hook)

step, code = 0, 9
while code == 9:
    step += 1
    child = os.fork()
    if child == 0:
        try:
            die_at(step)
            store.save(1, write(f"attempt {step}"))
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = store.newest()
    text = (found.folder / "deep" / "text").read_text()
    print(step, found.iteration, found.folder.name, text, sep="|", flush=True)
print(code)
"""


def newest_without_a_warning(folder: Path) -> tuple[Checkpoint, str]:
    with warnings.catch_warnings(action="error"):
        found = CheckpointStore(folder, keep=2).newest()
    assert found is not None
    return found, (found.folder / "deep" / "text").read_text()


def test_kill_at_random_moments(tmp_path: Path) -> None:
    generator = random.Random(0)
    reported = (0, 0)
    errors = tmp_path.with_suffix(".txt")
    for _ in range(5):
        command = [sys.executable, "-c", SAVE + SAVE_ON_AND_ON, str(tmp_path)]
        with (
            errors.open("w") as stderr,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as child,
        ):
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            assert lines[0], errors.read_text()
            time.sleep(generator.uniform(0.01, 0.15))
            child.kill()
            lines += child.stdout.readlines()
        complete = [line for line in lines if line.endswith("\n")]
        previous, reported = reported, tuple(map(int, complete[-1].split()))
        assert reported > previous
        found, text = newest_without_a_warning(tmp_path)
        iteration, attempt = map(int, text.split())
        assert iteration == found.iteration
        assert (iteration, attempt) >= reported  # what was reported as saved is never lost
        assert len((found.folder / "big").read_bytes()) == 320_000
    CheckpointStore(tmp_path, keep=2).save(iteration, lambda folder: None)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".old") or name[0] == "."]


def test_a_crash_between_two_renames_leaves_no_odd_name(tmp_path: Path) -> None:
    """However slowly the store goes on from there: the next save gives the old name back."""
    store = CheckpointStore(tmp_path, keep=2)
    for iteration in (1, 2):
        store.save(iteration, lambda folder: None, score=-iteration)
        folder = tmp_path / f"iteration-{iteration:06d}"
        folder.rename(folder.with_name(f"{folder.name}.old"))  # its successor never came
        found = store.newest()
        assert found is not None and found.iteration == iteration
    store.save(3, lambda folder: None, score=-3.0)
    assert sorted(os.listdir(tmp_path)) == [f"iteration-00000{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("others", [0, 3])
def test_kill_at_every_step_of_replacing_a_checkpoint(tmp_path: Path, others: int) -> None:
    """Even the only checkpoint there is survives its own replacement (`others` == 0)."""
    prepare = f"for i in range({others}): store.save(0, write('other'))\n"
    prepare += "store.save(1, write('attempt 0'))\n"
    command = [sys.executable, "-W", "error", "-c", SAVE + prepare + DIE_AT_EVERY_OPERATION]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *rows, code = done.stdout.splitlines()
    assert code == "0" and len(rows) > 20
    texts, folders = [], set()
    for row in rows:
        step, iteration, folder, text = row.split("|")
        assert iteration == "1"
        folders.add(folder)
        texts.append(text)
        assert int(text.split()[1]) <= int(step)
    assert folders == {"iteration-000001", "iteration-000001.old"}
    assert texts[-1] == f"attempt {len(rows)}" and texts[0] == "attempt 0"
    assert sorted(os.listdir(tmp_path)) == ["iteration-000000"] * bool(others) + [
        "iteration-000001"
    ]
