"""How much of SARS's credit is a straight line."""

from __future__ import annotations

import numpy as np
import pytest

from likewise.analysis.shaping_line import gamma_for, line_of, linear_share, sars

RNG = np.random.default_rng(0)


def normal(correlation: float, n: int = 200_000) -> np.ndarray:
    return RNG.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n).T


def test_sars_by_hand() -> None:
    z = np.array([[1.0, -1.0, 2.0, 0.0], [0.5, -0.5, -1.0, -3.0]])
    expected = [np.tanh(0.5), -np.tanh(0.5), np.tanh(-2.0), 0.0]
    assert sars(z) == pytest.approx(expected)


def test_of_uncorrelated_rewards_the_paper_keeps_a_twenty_fifth() -> None:
    assert linear_share(normal(0.0), [0.5], 0.4) == pytest.approx(0.962, abs=0.002)
    assert linear_share(normal(-0.5), [0.5], 0.4) == pytest.approx(0.881, abs=0.003)
    assert linear_share(normal(0.6), [0.5], 0.4) == pytest.approx(0.993, abs=0.002)


@pytest.mark.parametrize("weights", [[0.5], [0.7, 0.7, 0.3]])
def test_the_gamma_is_where_the_share_is(weights: list[float]) -> None:
    z = normal(-0.2, 5_000)
    gamma = gamma_for(z, weights, 0.9)
    assert gamma is not None
    assert linear_share(z, weights, gamma) == pytest.approx(0.9)
    lines = np.array([[weight, 1 - weight] for weight in weights]) @ z + gamma * sars(z)
    left = total = 0.0
    for line in lines:  # the definition: least squares of every step's advantages
        slopes = np.linalg.lstsq(z.T, line, rcond=None)[0]
        left += float(((line - slopes @ z) ** 2).sum())
        total += float((line**2).sum())
    assert 1 - left / total == pytest.approx(0.9)


def test_rewards_that_agree_leave_no_gamma() -> None:
    assert gamma_for(normal(0.6), [0.5], 0.8) is None
    assert line_of(normal(0.0)).slopes == pytest.approx([0.227, 0.227], abs=0.005)


def test_without_credit_all_of_it_is_a_line() -> None:
    assert linear_share(np.zeros((2, 3)), [0.5], 0.4) == 1.0
