"""Numbers of hand-made tables."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.trainer.assignment import Assignment
from likewise.trainer.metrics import (
    conflict_numbers,
    credit_numbers,
    reward_numbers,
    update_numbers,
)
from likewise.trainer.update import UpdateSums

SIDES = {"text": "prompt", "look": "identity"}
QUADRANTS = ["quadrant/++", "quadrant/+-", "quadrant/-+", "quadrant/--"]


def assignment(z: Tensor, whole: Tensor | None = None, shaped: Tensor | None = None) -> Assignment:
    count = z.shape[1]
    whole = torch.ones(count, dtype=torch.bool) if whole is None else whole
    return Assignment(
        whole,
        z,
        whole.expand(len(z), count),
        torch.zeros(count) if shaped is None else shaped,
        False,
        torch.zeros(len(z), 3),
        torch.zeros(count, 3),
    )


def assignment_of(weights: Tensor, advantages: Tensor) -> Assignment:
    return replace(assignment(torch.zeros(2, 2)), weights=weights, advantages=advantages)


# ── rewards ──


def test_reward_numbers_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0, 99.0, 5.0, 2.0, 2.0]])
    valid = torch.tensor([[True, True, False, True, True, True]])
    numbers = reward_numbers(["a"], values, valid, 3, 1e-6)
    seen = [1, 3, 5, 2, 2]
    assert numbers == {
        "reward/a/mean": pytest.approx(2.6),
        "reward/a/std": pytest.approx(np.std(seen, ddof=1)),
        "reward/a/min": 1.0,
        "reward/a/max": 5.0,
        "reward/a/group_std": pytest.approx((math.sqrt(2) + math.sqrt(3)) / 2),
        "reward/a/missing": 1.0,
        "reward/a/flat_groups": 0.0,
    }


def test_flat_groups_are_counted_below_the_floor() -> None:
    values = torch.tensor([[1.0, 1.0, 2.0, 2.1, 3.0, 9.0]])
    known = torch.ones(1, 6, dtype=torch.bool)
    assert reward_numbers(["a"], values, known, 2, 0.2)["reward/a/flat_groups"] == 2
    known[0, 5] = False  # one sample left: no group to speak of
    numbers = reward_numbers(["a"], values, known, 2, 99.0)
    assert numbers["reward/a/flat_groups"] == 2
    assert numbers["reward/a/group_std"] == pytest.approx(0.1 / math.sqrt(2) / 2, rel=1e-4)


def test_nothing_known_is_none() -> None:
    values, valid = torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bool)
    valid[1, 0] = True
    numbers = reward_numbers(["a", "b"], values, valid, 2, 1e-6)
    for name in ("mean", "std", "min", "max", "group_std"):
        assert numbers[f"reward/a/{name}"] is None
    assert numbers["reward/a/missing"] == 4 and numbers["reward/a/flat_groups"] == 0
    assert numbers["reward/b/mean"] == numbers["reward/b/min"] == 0
    assert numbers["reward/b/std"] is None and numbers["reward/b/group_std"] is None


# ── conflict ──


def test_conflict_by_hand() -> None:
    z = torch.tensor([[1.0, 2.0, -1.0, -0.5, 0.5], [1.0, -1.0, 2.0, -1.0, 0.25]])
    shaped = torch.tensor([0.4, -0.2, -0.3, -0.1, 0.0])
    numbers = conflict_numbers(SIDES, assignment(z, shaped=shaped))
    assert numbers == {
        "incomplete": 0.0,
        "shaping/mean_abs": pytest.approx(0.2),
        "conflict_rate": pytest.approx(2 / 5),
        "correlation": pytest.approx(np.corrcoef(z.numpy())[0, 1], abs=1e-6),
        "quadrant/++": pytest.approx(2 / 5),
        "quadrant/+-": pytest.approx(1 / 5),
        "quadrant/-+": pytest.approx(1 / 5),
        "quadrant/--": pytest.approx(1 / 5),
    }


def test_incomplete_images_have_no_say() -> None:
    z = torch.tensor([[1.0, -1.0, 0.0, 0.5], [1.0, -2.0, 0.0, -0.5]])
    whole = torch.tensor([True, True, False, True])
    shaped = torch.tensor([1.0, 1.0, 99.0, 1.0])
    with_junk, without = (
        conflict_numbers(SIDES, assignment(*table))
        for table in ((z, whole, shaped), (z[:, whole], None, shaped[whole]))
    )
    assert with_junk == {**without, "incomplete": 1.0}
    assert with_junk["conflict_rate"] == pytest.approx(1 / 3)


def test_conflict_is_between_samples_that_have_all_rewards() -> None:
    """A rule that trains on one reward gives credit to samples that lack the other."""
    z = torch.tensor([[1.0, -1.0, 0.5, -0.5], [1.0, 1.0, 0.0, 0.0]])
    known = torch.tensor([[True] * 4, [True, True, False, False]])
    numbers = conflict_numbers(SIDES, replace(assignment(z), known=known))
    assert numbers["conflict_rate"] == 0.5 and numbers["quadrant/++"] == 0.5


def test_a_combined_reward_is_not_called_shaping() -> None:
    credit = assignment(torch.randn(2, 4), shaped=torch.tensor([1.0, -1.0, 2.0, -2.0]))
    assert conflict_numbers(SIDES, credit)["shaping/mean_abs"] == 1.5
    numbers = conflict_numbers(SIDES, replace(credit, stands_alone=True))
    assert numbers["combined/mean_abs"] == 1.5 and "shaping/mean_abs" not in numbers


def test_images_without_credit_at_stake_have_no_say() -> None:
    """A flat group has z = 0 throughout: it neither agrees nor disagrees."""
    z = torch.tensor([[1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]])
    numbers = conflict_numbers(SIDES, assignment(z))
    assert numbers["conflict_rate"] == 1.0
    assert numbers["quadrant/--"] == 0.0


def test_quadrants_sum_to_one_and_correlation_is_numpys() -> None:
    for seed in range(5):
        z = torch.randn(2, 37, generator=torch.Generator().manual_seed(seed))
        z[:, seed] = 0  # of a flat group: not counted
        numbers = conflict_numbers(SIDES, assignment(z))
        z = torch.cat([z[:, :seed], z[:, seed + 1 :]], dim=1)
        assert sum(numbers[name] for name in QUADRANTS) == pytest.approx(1)  # type: ignore[misc]
        assert numbers["correlation"] == pytest.approx(np.corrcoef(z.numpy())[0, 1], abs=1e-5)
        mixed = ((z[0] > 0) != (z[1] > 0)).float().mean()  # signs differ
        assert numbers["quadrant/+-"] + numbers["quadrant/-+"] == pytest.approx(float(mixed))  # type: ignore[operator]


def test_several_rewards_are_averaged_over_pairs_and_over_sides() -> None:
    z = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    sides = {"text": "prompt", "style": "prompt", "look": "identity"}
    numbers = conflict_numbers(sides, assignment(z))
    pairs = list(itertools.combinations(z.numpy(), 2))
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert numbers["correlation"] == pytest.approx(expected, abs=1e-5)
    rate = np.mean([np.mean(a * b < 0) for a, b in pairs])
    assert numbers["conflict_rate"] == pytest.approx(rate)
    both = (((z[0] + z[1]) > 0) & (z[2] > 0)).float().mean()
    assert numbers["quadrant/++"] == pytest.approx(float(both))


def test_what_is_not_defined_is_none_or_absent() -> None:
    one = conflict_numbers({"text": "prompt"}, assignment(torch.ones(1, 4)))
    assert one.keys() == {"incomplete", "shaping/mean_abs"}
    same = conflict_numbers({"a": "prompt", "b": "prompt"}, assignment(torch.randn(2, 4)))
    assert not set(QUADRANTS) & same.keys() and "correlation" in same
    flat = conflict_numbers(SIDES, assignment(torch.stack([torch.zeros(4), torch.randn(4)])))
    assert flat["correlation"] is None and flat["conflict_rate"] == 0
    nobody = conflict_numbers(
        SIDES, assignment(torch.zeros(2, 4), torch.zeros(4, dtype=torch.bool))
    )
    assert nobody == {"incomplete": 4.0, **dict.fromkeys(
        ["shaping/mean_abs", "conflict_rate", "correlation", *QUADRANTS]
    )}  # fmt: skip
    lone = torch.tensor([True, False, False, False])
    assert conflict_numbers(SIDES, assignment(torch.ones(2, 4), lone))["correlation"] is None


# ── credit and update ──


def test_credit_numbers() -> None:
    weights = torch.tensor([[0.7, 0.5, 0.3], [0.3, 0.5, 0.7]])
    advantages = torch.tensor([[1.0, 50.0, -2.0], [0.0, 50.0, 3.0]])
    credit = assignment_of(weights, advantages)
    assert credit_numbers(["text", "look"], credit, (0, 2)) == {
        "weight/text/step_00": pytest.approx(0.7),
        "weight/text/step_02": pytest.approx(0.3),
        "weight/look/step_00": pytest.approx(0.3),
        "weight/look/step_02": pytest.approx(0.7),
        "advantage/mean_abs": pytest.approx(1.5),
    }
    own = weights[:, None].repeat(1, 2, 1)
    own[:, 1] = 0.5  # of the second image
    credit = assignment_of(own, advantages)
    assert credit_numbers(["text", "look"], credit, [0])["weight/text/step_00"] == pytest.approx(
        0.6
    )


def test_update_numbers_weigh_parts_by_their_terms() -> None:
    parts = [
        UpdateSums(2, {"loss": 4.0, "norm": 1.0}, {"loss": 2, "norm": 1}, {"ratio_deviation": 0.1}),
        UpdateSums(6, {"loss": 0.0, "norm": 2.0}, {"loss": 6, "norm": 1}, {"ratio_deviation": 0.3}),
        UpdateSums(),  # a process that had no samples
    ]
    assert update_numbers(parts, [1.0, 3.0], 0.01) == {
        "update/steps": 2,
        "update/skipped": 0,
        "update/loss": 0.5,
        "update/norm": 1.5,
        "update/ratio_deviation": 0.3,
        "update/grad_norm": 2.0,
        "update/learning_rate": 0.01,
    }
