"""What is saved is found again, damage is noticed, and old checkpoints go."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from likewise.records import CheckpointStore


def writer(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text(text)
        (folder / "state").write_bytes(text.encode() * 1000)

    return write


def text(folder: Path) -> str:
    return (folder / "adapter" / "weights").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run" / "checkpoints", keep=2)


def test_an_empty_store_has_nothing_and_creates_nothing(store: CheckpointStore) -> None:
    assert store.newest() is None and store.best() is None
    assert not store.folder.exists()


def test_round_trip(store: CheckpointStore) -> None:
    folder = store.save(12, writer("twelve"), score=0.25)
    assert folder == store.folder / "iteration-000012"
    found = store.newest()
    assert found is not None and found == store.best()
    assert (found.iteration, found.folder, found.score) == (12, folder, 0.25)
    assert text(found.folder) == "twelve"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["iteration"] == 12 and manifest["score"] == 0.25
    assert list(manifest["files"]) == ["adapter/weights", "state"]
    assert manifest["files"]["state"]["bytes"] == 6000
    assert names(store.folder) == ["iteration-000012"]


def test_a_checkpoint_may_be_moved_with_its_run(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(1, writer("one"))
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    moved = CheckpointStore(tmp_path / "elsewhere" / "checkpoints", keep=2).newest()
    assert moved is not None and text(moved.folder) == "one"


@pytest.mark.parametrize(
    ("scores", "keep", "left"),
    [
        ([None] * 4, 2, [2, 3]),
        ([None] * 4, 9, [0, 1, 2, 3]),
        ([0.1, 0.9, 0.2, 0.3], 1, [1, 3]),
        ([0.1, 0.9, 0.9, 0.3], 1, [2, 3]),  # ties: the newest
        ([-5.0, None, None, None], 1, [0, 3]),  # any score is better than none
        ([float("nan"), 0.1, float("inf"), None], 1, [1, 3]),
        ([0.1, 0.2, 0.3, 0.4], 1, [3]),
        ([0.5, 0.2, 0.3, 0.4], 2, [0, 2, 3]),
    ],
)
def test_pruning(store: CheckpointStore, scores: list, keep: int, left: list[int]) -> None:
    store.keep = keep
    for iteration, score in enumerate(scores):
        store.save(iteration, writer(str(iteration)), score)
    assert names(store.folder) == [f"iteration-{iteration:06d}" for iteration in left]
    newest = store.newest()
    assert newest is not None and newest.iteration == 3


def test_order_is_of_numbers_not_of_names(store: CheckpointStore) -> None:
    for iteration in (999_998, 999_999, 1_000_000):
        store.save(iteration, writer(""))
    assert names(store.folder) == ["iteration-1000000", "iteration-999999"]
    newest = store.newest()
    assert newest is not None and newest.iteration == 1_000_000


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing file": ("adapter/weights is missing", lambda c: (c / "adapter/weights").unlink()),
    "missing folder": ("adapter/weights is missing", lambda c: shutil.rmtree(c / "adapter")),
    "truncated": ("state has 10 bytes", lambda c: (c / "state").write_bytes(b"x" * 10)),
    "grown": ("state has 3001 bytes", lambda c: (c / "state").open("ab").write(b"x")),
    "emptied": ("state has 0 bytes", lambda c: (c / "state").write_bytes(b"")),
    "changed": ("state has changed", lambda c: (c / "state").write_bytes(b"x" * 3000)),
    "a folder instead": (
        "state (has|is unreadable)",
        lambda c: ((c / "state").unlink(), (c / "state").mkdir()),
    ),
    "no manifest": ("manifest.json is missing", lambda c: (c / "manifest.json").unlink()),
    "torn manifest": (
        "manifest.json is unreadable",
        lambda c: (c / "manifest.json").write_text('{"iteration": 2, "fil'),
    ),
    "binary manifest": (
        "manifest.json is unreadable",
        lambda c: (c / "manifest.json").write_bytes(b"\xff\x00\x80"),
    ),
    "other manifest": (
        "manifest.json is unreadable",
        lambda c: (c / "manifest.json").write_text('{"iteration": 2, "score": 1, "files": [1]}'),
    ),
    "manifest of numbers": (
        "manifest.json is unreadable",
        lambda c: (c / "manifest.json").write_text("17"),
    ),
    "renamed by hand": (
        "manifest.json is that of iteration 1",
        lambda c: shutil.copytree(c.with_name("iteration-000001"), c, dirs_exist_ok=True),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_skipped_with_a_warning_and_saved_over(store: CheckpointStore, kind: str) -> None:
    message, harm = DAMAGE[kind]
    store.save(1, writer("one"), score=1.0)
    folder = store.save(2, writer("two"), score=2.0)
    harm(folder)
    before = names(store.folder)
    for find in (store.newest, store.best):
        with pytest.warns(UserWarning, match=f"iteration-000002 is skipped: {message}"):
            found = find()
        assert found is not None and found.iteration == 1 and text(found.folder) == "one"
    assert names(store.folder) == before  # reading changes nothing
    store.save(2, writer("again"))
    with warnings.catch_warnings(action="error"):
        again = store.newest()
    assert again is not None and again.iteration == 2 and text(again.folder) == "again"
    assert names(store.folder) == [
        "damaged-iteration-000002",
        "iteration-000001",
        "iteration-000002",
    ]


def test_evidence_of_repeated_damage_is_kept_apart(store: CheckpointStore) -> None:
    for _ in range(3):
        (store.save(1, writer("one")) / "state").unlink()
    expected = ["damaged-iteration-000001", "damaged-iteration-000001-2", "iteration-000001"]
    assert names(store.folder) == expected
    with pytest.warns(UserWarning, match="state is missing"):
        assert store.newest() is None


def test_unlisted_files_and_foreign_names_do_not_matter(store: CheckpointStore) -> None:
    folder = store.save(1, writer("one"))
    (folder / ".DS_Store").write_text("")
    (store.folder / "iteration-12").mkdir()
    (store.folder / "iteration-000099").write_text("not a folder")
    (store.folder / "notes.txt").write_text("")
    newest = store.newest()
    assert newest is not None and newest.iteration == 1
    store.save(2, writer("two"))
    assert (store.folder / "notes.txt").exists()


def test_a_new_checkpoint_outlives_later_ones_of_a_left_course(
    store: CheckpointStore,
) -> None:
    store.keep = 1
    store.save(10, writer("ten"), score=1.0)
    (store.save(20, writer("twenty"), score=2.0) / "state").unlink()
    CheckpointStore(store.folder, keep=9).save(15, writer("fifteen"))
    store.save(30, writer("thirty"), score=3.0)
    store.save(17, writer("seventeen"))
    newest = store.newest()
    assert newest is not None and text(newest.folder) == "seventeen"
    assert store.best() is None
    expected = ["abandoned-iteration-000030", "damaged-iteration-000020", "iteration-000017"]
    assert names(store.folder) == expected


def test_a_checkpoint_is_on_the_disk_before_its_name_is(
    store: CheckpointStore, monkeypatch
) -> None:
    store.save(1, writer("one"))
    synced: set[int] = set()
    rename = os.rename

    def check(old: Path, new: Path) -> None:
        if new.name == "iteration-000002":
            inside = {path.stat().st_ino for path in [old, *old.rglob("*")]}
            assert len(inside) == 5 and inside <= synced
            synced.clear()
        rename(old, new)

    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    monkeypatch.setattr(os, "rename", check)
    store.save(2, writer("two"))
    assert store.folder.stat().st_ino in synced


def test_a_failing_writer_leaves_the_store_as_it_was(store: CheckpointStore) -> None:
    store.save(1, writer("one"))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no space left on device")

    for iteration in (1, 2):
        with pytest.raises(OSError, match="no space"):
            store.save(iteration, fail)
    assert names(store.folder) == ["iteration-000001"]
    newest = store.newest()
    assert newest is not None and text(newest.folder) == "one"


def test_leftovers_of_dead_launches_go_with_the_next_save(store: CheckpointStore) -> None:
    (store.folder / ".tmp-3-99999" / "adapter").mkdir(parents=True)
    assert store.newest() is None
    store.save(1, writer("one"))
    assert names(store.folder) == ["iteration-000001"]


def test_wrong_use_is_refused(store: CheckpointStore) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1"):
        CheckpointStore(store.folder, keep=0)
    with pytest.raises(ValueError, match="negative"):
        store.save(-1, writer(""))
    with pytest.raises(ValueError, match=r"manifest\.json is the store's own file"):
        store.save(1, lambda folder: (folder / "manifest.json").write_text("{}"))
    assert names(store.folder) == []
