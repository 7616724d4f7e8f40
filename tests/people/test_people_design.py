"""Who sees what: balance, blinding and randomisation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voting import drawn, make_study, make_task

from likewise.people.creating import read_questions
from likewise.people.design import booklets, choose_tasks, share_out


@pytest.mark.parametrize(
    ("pairs", "raters", "per_rater"),
    [(20, 3, 20), (20, 5, 7), (200, 10, 100), (7, 4, 3), (1, 5, 1), (30, 2, 29)],
)
def test_every_pair_is_seen_equally_often(pairs: int, raters: int, per_rater: int) -> None:
    for seed in range(5):
        found = booklets(pairs, raters, per_rater, [pairs, pairs + 1], np.random.default_rng(seed))
        seen = [[one.pair for one in booklet] for booklet in found]
        assert all(len(set(one)) == len(one) for one in seen)  # nobody sees a pair twice
        counts = Counter(pair for one in seen for pair in one)
        assert all(counts[pair] == raters for pair in range(pairs))
        assert all({pairs, pairs + 1} <= set(one) for one in seen)
        assert all(len(one) == per_rater + 2 for one in seen[:-1])
        flips = Counter(one.pair for booklet in found for one in booklet if one.flipped)
        assert all(abs(2 * flips[pair] - raters) <= 1 for pair in range(pairs))


def test_order_and_sides_are_random_and_follow_from_the_seed() -> None:
    one, same, other = (booklets(30, 4, 30, [], np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same != other
    orders = {tuple(showing.pair for showing in booklet) for booklet in one}
    assert len(orders) == 4


def test_too_many_pairs_per_rater_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 5 pairs"):
        booklets(5, 2, 6, [], np.random.default_rng(0))


def test_tasks_are_chosen_evenly_over_subjects() -> None:
    subjects = ["a"] * 50 + ["b"] * 5 + ["c"] * 5
    chosen = choose_tasks(subjects, 9, np.random.default_rng(0))
    assert Counter(subjects[index] for index in chosen) == {"a": 3, "b": 3, "c": 3}
    assert len(set(choose_tasks(subjects, 60, np.random.default_rng(0)))) == 60


def test_pairs_are_shared_out_over_systems() -> None:
    shared = share_out(10, ["x", "y", "z"])
    assert sorted(shared.values()) == [3, 3, 4] and len(shared) == 3


def test_a_study_is_blinded_and_balanced(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=40, pairs=20, raters_per_pair=4)
    real = [pair for pair in study.pairs if pair.check is None]
    assert len(real) == 20
    assert all({p.first.system, p.second.system} == {"good", "poor"} for p in real)
    assert 3 < sum(pair.first.system == "good" for pair in real) < 17  # who is first is random
    files = list((study.folder / "images").iterdir())
    assert {len(file.stem) for file in files} == {20}
    named = {word for file in files for word in ("good", "poor", "t1") if word in file.stem}
    assert not named and {file.suffix for file in files} == {".webp"}
    with Image.open(files[0]) as image:
        assert not image.getexif() and "exif" not in image.info


def test_the_seed_decides_pairs_and_order(tmp_path: Path) -> None:
    one, same, other = (
        make_study(tmp_path / name, pairs=6, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    def tasks(study) -> list[tuple[str, str]]:
        return [(pair.task, pair.first.system) for pair in study.pairs]

    assert tasks(one) == tasks(same) != tasks(other)
    assert one.settings.key != same.settings.key  # which must not be guessed


def test_checks_have_known_answers(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=30, checks=0.2)
    checks = [pair for pair in study.pairs if pair.check]
    assert Counter(pair.check for pair in checks) == {"same": 3, "wrong": 3}
    for pair in checks:
        assert (pair.first.image == pair.second.image) == (pair.check == "same")
    assert not [p for p in make_study(tmp_path / "none", checks=0).pairs if p.check]


def test_impossible_studies_are_refused(tmp_path: Path) -> None:
    tasks = [make_task(number) for number in range(4)]
    two = {"x": drawn(1, tasks[:2]), "y": drawn(2, tasks[2:])}
    with pytest.raises(ValueError, match="both drew 0 tasks"):
        make_study(tmp_path / "a", systems=two)
    with pytest.raises(ValueError, match="both drew 12 tasks, and 13"):
        make_study(tmp_path / "b", pairs=13)
    with pytest.raises(ValueError, match="two systems"):
        make_study(tmp_path / "c", systems={"x": drawn(1, tasks)})
    make_study(tmp_path / "d")
    with pytest.raises(ValueError, match="exists"):
        make_study(tmp_path / "d")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_questions_are_known_or_have_a_text() -> None:
    found = read_questions(["identity", "fun=Which is more fun?"])
    assert [one.name for one in found] == ["identity", "fun"]
    assert found[1].text == "Which is more fun?"
    for wrong in (["likeness"], ["identity", "identity"], ["=Which?"]):
        with pytest.raises(ValueError, match="question"):
            read_questions(wrong)
