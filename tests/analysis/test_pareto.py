"""Fronts and hypervolumes, by hand and by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from likewise.analysis.pareto import front, hypervolume


def test_a_front_by_hand() -> None:
    points = np.array([[1, 3], [2, 2], [3, 1], [1, 2], [2, 2], [0, 3], [3, 0.5]])
    assert front(points).tolist() == [True, True, True, False, True, False, False]


def test_a_front_is_what_nothing_dominates() -> None:
    points = np.random.default_rng(0).integers(0, 6, size=(40, 2))  # many ties
    wanted = [
        not any((q >= p).all() and (q > p).any() for q in points)  # as the definition has it
        for p in points
    ]
    assert front(points).tolist() == wanted
    assert 0 < sum(wanted) < 40


def test_unknown_points_are_on_no_front() -> None:
    assert front(np.array([[np.nan, 9], [1, 1]])).tolist() == [False, True]
    assert front(np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0),
        ([[2, 3]], 6),
        ([[1, 3], [2, 2], [3, 1]], 6),
        ([[3, 1], [1, 3], [2, 2], [1, 1], [2, 2]], 6),
        ([[2, 3], [2, 1], [1, 3]], 6),
        ([[2, 3], [5, 0], [0, 5], [-1, 9], [9, -1]], 6),
    ],
)
def test_a_hypervolume_by_hand(points: list[list[float]], area: float) -> None:
    assert hypervolume(np.array(points), np.array([0, 0])) == area
    moved = np.array([0.5, -2])
    shifted = np.array(points).reshape(-1, 2) + moved
    assert hypervolume(shifted, moved) == pytest.approx(area)


def test_a_hypervolume_is_the_area_of_the_union() -> None:
    """By inclusion and exclusion: boxes from the reference meet in the box of the minima."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        points, reference = rng.normal(size=(8, 2)), rng.normal(size=2) - 0.5
        boxes = (points - reference).clip(min=0)
        wanted = sum(
            (-1) ** (size + 1) * np.min(chosen, axis=0).prod()
            for size in range(1, 9)
            for chosen in itertools.combinations(boxes, size)
        )
        assert hypervolume(points, reference) == pytest.approx(wanted, abs=1e-9)
