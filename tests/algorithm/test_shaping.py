"""SARS quadrant by quadrant, and its rivals, by hand and by their properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likewise.algorithm import shaping

SYMMETRIC: list[Callable[[Tensor], Tensor]] = [
    lambda z: shaping.sars(z, 0.4),
    shaping.minimum,
    shaping.maximum,
    shaping.harmonic,
    shaping.product,
]
NAMES = ["sars", "minimum", "maximum", "harmonic", "product"]
EVERY_SYMMETRIC = pytest.mark.parametrize("shape", SYMMETRIC, ids=NAMES)


def pair(p: float, i: float) -> Tensor:
    return torch.tensor([[p], [i]])


def scores(K: int, B: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(K, B, generator=torch.Generator().manual_seed(seed))


# ── SARS ──


@pytest.mark.parametrize(
    "p, i, expected",
    [
        (1.0, 0.5, +0.4 * math.tanh(0.5)),  # synergy
        (1.0, -0.5, -0.4 * math.tanh(0.5)),  # conflict
        (-1.0, 0.5, -0.4 * math.tanh(0.5)),  # conflict
        (-1.0, -0.5, -0.4 * math.tanh(0.5)),  # bad at both
        (0.0, 3.0, 0.0),
        (0.0, -3.0, 0.0),
        (0.0, 0.0, 0.0),
        (9.0, 9.0, 0.4),
    ],
)
def test_sars_truth_table(p: float, i: float, expected: float) -> None:
    assert shaping.sars(pair(p, i), 0.4).item() == pytest.approx(expected)


def test_only_synergy_is_rewarded() -> None:
    z = scores(2, 1000)
    assert torch.equal(shaping.sars(z, 0.4) > 0, (z > 0).all(0))


def test_sars_is_proportional_to_gamma_and_off_at_zero() -> None:
    z = scores(2)
    torch.testing.assert_close(shaping.sars(z, 0.8), 2 * shaping.sars(z, 0.4))
    assert shaping.sars(z, 0.0).abs().max() == 0


def test_three_rewards_are_the_mean_over_pairs() -> None:
    z = scores(3)
    pairs = [shaping.sars(z[[a, b]], 0.4) for a, b in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(shaping.sars(z, 0.4), sum(pairs) / 3)


# ── the interface ──


@EVERY_SYMMETRIC
@pytest.mark.parametrize("K", [2, 3, 4])
def test_an_average_sample_gets_nothing(shape: Callable, K: int) -> None:
    found = shape(torch.zeros(K, 5))
    assert found.shape == (5,) and found.dtype == torch.float32
    assert found.abs().max() < 1e-6


@EVERY_SYMMETRIC
@pytest.mark.parametrize("K", [2, 3])
def test_the_order_of_rewards_does_not_matter(shape: Callable, K: int) -> None:
    z = scores(K)
    torch.testing.assert_close(shape(z.flip(0)), shape(z))


@EVERY_SYMMETRIC
def test_one_reward_is_refused(shape: Callable) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        shape(torch.zeros(1, 5))


@EVERY_SYMMETRIC
def test_samples_are_independent(shape: Callable) -> None:
    z = scores(2)
    torch.testing.assert_close(shape(z)[3:5], shape(z[:, 3:5]))


def test_negative_gamma_is_refused() -> None:
    for shape in (shaping.sars, shaping.harmonic):
        with pytest.raises(ValueError, match="gamma"):
            shape(pair(1, 1), -0.1)


# ── the rivals ──


def test_minimum_and_maximum() -> None:
    z = torch.tensor([[1.0, -2, 0.5], [3.0, -4, -0.5], [2.0, 0, 0]])
    assert shaping.minimum(z).tolist() == [1, -4, -0.5]
    assert shaping.maximum(z).tolist() == [3, 0, 0.5]


@pytest.mark.parametrize(
    "p, i, expected",
    [(2.0, 3.0, 6 / 5), (-2.0, -3.0, -6 / 5), (2.0, -3.0, -6 / 5), (-2.0, 3.0, -6 / 5), (0, 2, 0)],
)
def test_harmonic_quadrants(p: float, i: float, expected: float) -> None:
    z = pair(p, i)
    assert shaping.harmonic(z, 1.0).item() == pytest.approx(expected)
    assert shaping.harmonic(z, 0.4).item() == pytest.approx(0.4 * expected)


def test_harmonic_is_the_released_form_where_that_is_sound() -> None:
    z = scores(2, 200)
    released = z.prod(0) / (z.sum(0) + 1e-6)
    agree = z[0] * z[1] > 0
    torch.testing.assert_close(
        shaping.harmonic(z, 1.0)[agree], released[agree], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("delta", [0.0, 1e-7, -1e-7, 1e-4, -1e-4])
def test_harmonic_is_safe_at_opposite_scores(delta: float) -> None:
    term = shaping.harmonic(pair(1.5, -1.5 + delta), 1.0).item()
    assert term == pytest.approx(-0.75, abs=1e-3)


def test_harmonic_is_bounded_by_the_smaller_score() -> None:
    z = scores(2, 1000) * torch.logspace(-30, 15, 1000)
    term = shaping.harmonic(z, 1.0)
    assert bool((term.abs() <= z.abs().amin(0) * 1.000001).all())


def test_product_by_hand_and_monotone() -> None:
    expected = math.log(1 + math.e) * math.log(1 + math.exp(-2)) - math.log(2) ** 2
    assert shaping.product(pair(1.0, -2.0)).item() == pytest.approx(expected)
    # Two bad scores must not multiply to a good one.
    assert shaping.product(pair(-3.0, -3.0)).item() < shaping.product(pair(-1.0, -1.0)).item() < 0
    assert shaping.product(pair(2.0, 1.0)).item() > shaping.product(pair(1.0, 1.0)).item() > 0


def test_weighted_sum() -> None:
    z = torch.tensor([[1.0, 2], [10.0, 20]])
    assert shaping.weighted_sum(z, [0.5, 0.25]).tolist() == [3, 6]
    assert shaping.weighted_sum(z, [0, 1]).tolist() == [10, 20]
    assert shaping.weighted_sum(z, [0, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="3 weights for 2 rewards"):
        shaping.weighted_sum(z, [1, 1, 1])


def test_weighted_sum_of_raw_rewards_keeps_missing_missing() -> None:
    rewards = torch.tensor([[1.0, math.nan], [math.nan, 2.0]])
    assert shaping.weighted_sum(rewards, [1, 1]).isnan().tolist() == [True, True]
    assert shaping.weighted_sum(rewards, [1, 0]).isnan().tolist() == [False, True]


def test_gdpo_by_hand() -> None:
    # s = 0.5·1 + 1·0 = 0.5, then 1, 1.5: mean 1, std 0.5
    z = torch.tensor([[1.0, 2, 1], [0.0, 0, 1]])
    assert shaping.gdpo(z, [0.5, 1.0]).tolist() == pytest.approx([-1, 0, 1], abs=1e-6)


@pytest.mark.parametrize("threshold", [None, 0.3, 1.0])
def test_gdpo_has_unit_std_and_leaves_missing_samples_out(threshold: float | None) -> None:
    """Alone, and without samples that disagree."""

    def combined_of(z: Tensor, valid: Tensor, group_size: int) -> Tensor:
        if threshold is None:
            return shaping.gdpo(z, [1, 2, 3], valid)
        return shaping.gd2po(z, [1, 2, 3], valid, group_size, threshold)

    z, valid = scores(3, 60), torch.arange(60) % 4 != 0
    found = combined_of(z.masked_fill(~valid, math.nan), valid, 4)
    assert found[~valid].abs().max() == 0
    kept = found != 0
    torch.testing.assert_close(found[kept].std(), torch.tensor(1.0))
    torch.testing.assert_close(found[kept].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert kept.equal(valid) == (threshold is None)
    alone = combined_of(z[:, valid], torch.ones(45, dtype=torch.bool), 3)
    torch.testing.assert_close(found[valid], alone)


def test_gdpo_of_equal_samples_is_zero() -> None:
    nothing, valid = torch.zeros(2, 6), torch.ones(6, dtype=torch.bool)
    assert shaping.gdpo(nothing, [1, 1]).abs().max() == 0
    for whiten in ("batch", "group"):
        assert shaping.gd2po(nothing, [1, 1], valid, 3, 1.0, whiten).abs().max() == 0


# ── GD²PO ──


def gd2po(z: Tensor, threshold: float = 1.0, whiten: str = "batch", G: int = 4) -> list[float]:
    valid = torch.ones(len(z[0]), dtype=torch.bool)
    return shaping.gd2po(z, [1.0] * len(z), valid, G, threshold, whiten).tolist()


def test_gd2po_by_hand() -> None:
    """Group 1 keeps 3 of 4, with sums 2, 4, −2; group 2 keeps 2 of 4, with sums 2, −6."""
    z = torch.tensor([[1.0, 1, -1, 1, 1, 1, -1, -3], [1.0, 3, -1, -3, 1, -1, 1, -3]])
    shares = [0.75 * 2, 0.75 * 4, 0.75 * -2, 0.5 * 2, 0.5 * -6]
    mean = sum(shares) / 5
    std = math.sqrt(sum((one - mean) ** 2 for one in shares) / 4)
    a, b, c, d, e = [(one - mean) / std for one in shares]
    assert gd2po(z) == pytest.approx([a, b, c, 0, d, 0, 0, e], abs=1e-6)
    # By group: means 4/3 and −2, stds √(28/3) and √32.
    first = [0.75 * (one - 4 / 3) / math.sqrt(28 / 3) for one in (2, 4, -2)]
    second = [0.5 * (one + 2) / math.sqrt(32) for one in (2, -6)]
    expected = [*first, 0, second[0], 0, 0, second[1]]
    assert gd2po(z, whiten="group") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
def test_gd2po_drops_what_disagrees(K: int, threshold: float) -> None:
    """By its definition, sample by sample; at 1, that is wherever two signs differ."""
    z = scores(K, 400)
    dropped = [found == 0 for found in gd2po(z, threshold)]
    rows = z.T.tolist()
    assert dropped == [abs(sum(row)) < threshold * sum(map(abs, row)) for row in rows]
    signs = [min(row) < 0 < max(row) for row in rows]
    assert (dropped == signs) == (threshold == 1)
    assert not any(drop and not sign for drop, sign in zip(dropped, signs, strict=True))
    assert 0 < sum(dropped) < 400


@pytest.mark.parametrize("whiten", ["batch", "group"])
def test_gd2po_gives_a_group_that_keeps_nothing_nothing(whiten: str) -> None:
    """It does not move the others either, and neither does a group of equal samples."""
    kept = scores(1, 8).expand(2, 8)
    conflict, equal = scores(1, 4) * torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 4)
    alone = gd2po(kept, whiten=whiten)
    found = gd2po(torch.cat([conflict, kept, equal], dim=1), whiten=whiten)
    assert found == pytest.approx([0.0] * 4 + alone + [0.0] * 4, abs=1e-6)
    assert gd2po(conflict, whiten=whiten) == [0.0] * 4


def test_gd2po_weighs_rewards() -> None:
    z, valid = scores(2), torch.ones(12, dtype=torch.bool)
    weighed = shaping.gd2po(z, [2.0, 0.5], valid, 4, 0.5)
    plain = shaping.gd2po(z * torch.tensor([[2.0], [0.5]]), [1.0, 1.0], valid, 4, 0.5)
    torch.testing.assert_close(weighed, plain)
    single = shaping.gd2po(z, [1.0, 0.0], valid, 4, 1.0)  # nothing can disagree
    torch.testing.assert_close(single, shaping.gdpo(z, [1.0, 0.0]))


# ── the hinge gate ──


def test_hinge_gate_by_hand() -> None:
    main = torch.tensor([1.0, 1, 1, 2])
    gate = torch.tensor([0.6, 0.5, 0.3, -0.5])
    # Below the floor of 0.5 by nothing, 0, 0.2 and 1.
    expected = [1, 1, 1 - 5 * 0.04, 2 - 5]
    assert shaping.hinge_gate(main, gate, 0.5, 5.0).tolist() == pytest.approx(expected)
    floors = torch.tensor([0.7, 0.4, 0.3, -0.5])
    expected = [1 - 2 * 0.01, 1, 1, 2]
    assert shaping.hinge_gate(main, gate, floors, 2.0).tolist() == pytest.approx(expected)


def test_hinge_gate_is_smooth_at_the_floor_and_never_rewards() -> None:
    gate = torch.linspace(-1, 1, 201, dtype=torch.float64)
    raw = shaping.hinge_gate(torch.zeros_like(gate), gate, 0.0, 5.0)
    slopes = raw.diff() / gate.diff()
    assert bool((raw <= 0).all() and (slopes >= 0).all())
    assert float(slopes.diff().abs().max()) <= 2 * 5 * 0.01 + 1e-9  # 2λ per unit, no jump


def test_hinge_gate_keeps_missing_missing() -> None:
    nan = torch.tensor([math.nan, 1.0, 1.0])
    raw = shaping.hinge_gate(nan, nan.roll(1), 0.5, 5.0)
    assert raw.isnan().tolist() == [True, True, False]
