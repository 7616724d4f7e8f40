"""How much of SARS's credit is a straight line in both z: what a weighted sum could do as well.

    S = β_p·z_p + β_i·z_i + rest,    A = Σ_k w_k·z_k + γ·S

Least squares through 0, so that the rest is uncorrelated with both z. Where z are normal, it trains
nothing (docs/method.md §9), and where it is small, SARS is another weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """SARS at γ = 1.

    Attributes:
        slopes: β [2].
        rest: Mean square of the rest.
    """

    slopes: np.ndarray
    rest: float


def sars(z: np.ndarray) -> np.ndarray:
    """±tanh(z_p·z_i), − where both are ≤ 0: [n] from z [2, n]; `algorithm.shaping.sars`."""
    return np.where((z > 0).any(0), 1.0, -1.0) * np.tanh(z.prod(0))


def line_of(z: np.ndarray) -> Line:
    """The line through SARS of z [2, n], n ≥ 1."""
    term = sars(z)
    slopes = np.linalg.lstsq(z.T, term, rcond=None)[0]
    return Line(slopes, float(np.mean((term - slopes @ z) ** 2)))


def linear_share(z: np.ndarray, prompt_weights: Sequence[float], gamma: float) -> float:
    """Share of the advantages' sum of squares that lines in z [2, n] explain, over steps with
    these weights of the prompt; 1 where there is no credit."""
    line, total, inner, square = _parts(z, prompt_weights)
    whole = total + 2 * gamma * inner + gamma**2 * square
    return 1 - gamma**2 * line.rest / whole if whole > 0 else 1.0


def gamma_for(z: np.ndarray, prompt_weights: Sequence[float], share: float) -> float | None:
    """The γ at which lines explain that share of the advantages; None: they explain more at any γ.

    Args:
        share: In (0, 1).
    """
    line, total, inner, square = _parts(z, prompt_weights)
    left = 1 - share
    a, b, c = line.rest - left * square, -left * inner, -left * total
    if a <= 0:
        return None
    return float((-b + np.sqrt(b**2 - a * c)) / a)


def _parts(z: np.ndarray, prompt_weights: Sequence[float]) -> tuple[Line, float, float, float]:
    """The line, and means of (w·z)², (w·z)·S and S² over samples and steps."""
    weights = np.array([[weight, 1 - weight] for weight in prompt_weights])
    sums, term = weights @ z, sars(z)
    return (
        line_of(z),
        float(np.mean(sums**2)),
        float(np.mean(sums * term)),
        float(np.mean(term**2)),
    )
