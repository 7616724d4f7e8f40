"""Several gradients, one direction: by hand for two, by search for three (docs/method.md §3)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from likewise.algorithm import gradients
from likewise.algorithm.gradients import cosine, gram, min_norm, normalised, pcgrad

EXACT = torch.float64


def exact(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=EXACT)


def of(*rows: list[float]) -> Tensor:
    return gram(exact(*rows))


def some(seed: int, count: int, size: int) -> Tensor:
    """Vectors of very different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = 10 ** torch.randn(count, 1, generator=generator, dtype=EXACT)
    return lengths * torch.randn(count, size, generator=generator, dtype=EXACT)


# ── inner products ──


def test_gram_by_hand_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = exact([1, 2, 3], [4, -5, 6])
    assert gram(vectors).tolist() == [[14, 12], [12, 77]]
    monkeypatch.setattr(gradients, "CHUNK", 2)
    assert gram(vectors.float()).tolist() == [[14, 12], [12, 77]]


def test_gram_is_precise_where_float32_is_not() -> None:
    vectors = torch.full((2, 3), 1.0)
    vectors[0, 1], vectors[0, 2] = 1e8, -1e8
    assert gram(vectors)[0, 1] == 1.0


def test_cosines_by_hand() -> None:
    products = of([3, 4], [4, -3], [-3, -4])
    one, other, third = torch.eye(3, dtype=torch.bool)
    assert cosine(products, one, other) == 0
    assert cosine(products, one, third) == -1
    assert cosine(products, one, one) == 1
    # (3, 4) + (4, −3) = (7, 1) against (−3, −4)
    assert cosine(products, one | other, third) == pytest.approx(-25 / (math.sqrt(50) * 5))


def test_no_cosine_of_nothing() -> None:
    one, other = torch.eye(2, dtype=torch.bool)
    assert cosine(of([0, 0], [1, 2]), one, other) is None
    assert cosine(of([1, 2], [1, 2]), one, torch.zeros(2, dtype=torch.bool)) is None
    assert cosine(of([math.inf, 1], [1, 2]), one, other) is None


# ── min-norm ──


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ([3, 0], [0, 4], 16 / 25),  # orthogonal: by squared lengths, the shorter one counts more
        ([1, 0], [0, 1], 0.5),
        ([1, 0], [-3, 0], 0.75),  # opposite: they cancel
        ([2, 1], [2, 1], 0.5),  # equal: any share will do
        ([1, 1], [3, 3], 1.0),  # alike: the shorter one alone
        ([5, 1], [1, 0], 0.0),
        ([2, 0], [-1, 1], 0.4),  # ⟨g2 − g1, g2⟩/‖g1 − g2‖² = (3 + 1)/10
    ],
)
def test_min_norm_of_two_by_hand(one: list[float], other: list[float], share: float) -> None:
    assert min_norm(of(one, other)).tolist() == pytest.approx([share, 1 - share], abs=1e-12)
    assert min_norm(of(other, one)).tolist() == pytest.approx(
        [1 - share, share] if one != other else [share, 1 - share], abs=1e-12
    )


def test_two_of_one_length_always_count_alike() -> None:
    """So that with two rewards normalised min-norm is their bisector, and so is PCGrad's sum."""
    for seed in range(20):
        products = normalised(gram(some(seed, 2, 5)))
        assert min_norm(products).tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
        weights = pcgrad(products)
        assert weights[0] == pytest.approx(float(weights[1]))


@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("seed", range(8))
def test_min_norm_of_three_is_the_best_of_a_grid(seed: int, size: int) -> None:
    """In two dimensions three gradients are dependent, and 0 is often among their combinations."""
    products = gram(some(seed, 3, size))
    if seed % 2:
        products = normalised(products)
    weights = min_norm(products)
    assert weights.min() >= 0 and float(weights.sum()) == pytest.approx(1)
    length = float(weights @ products @ weights)
    axis = torch.linspace(0, 1, 301, dtype=EXACT)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    grid = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
    grid = grid[grid[:, 2] >= -1e-9]
    best = float(((grid @ products) * grid).sum(1).min())
    largest = float(products.diagonal().max())
    assert length <= best + 1e-9 * largest
    assert best <= length + (2 / 300) ** 2 * largest + 1e-12  # how far a grid point may be off


@pytest.mark.parametrize("count", [3, 4, 7])
@pytest.mark.parametrize("seed", range(6))
def test_along_min_norm_no_reward_falls(seed: int, count: int) -> None:
    """⟨d, g_k⟩ ≥ ‖d‖², with equality where the weight is above 0: the conditions of the optimum."""
    vectors = some(seed, count, 5)
    weights = min_norm(gram(vectors))
    d = weights @ vectors
    slack = 1e-9 * float(vectors.square().sum(1).max())
    along = vectors @ d
    assert (along >= d @ d - slack).all()
    torch.testing.assert_close(along[weights > 0], (d @ d).expand_as(along[weights > 0]),
                               rtol=0, atol=slack)  # fmt: skip


def test_min_norm_bears_repeated_and_opposite_gradients() -> None:
    weights = min_norm(of([1, 0], [1, 0], [-1, 0], [0, 1]))
    assert weights @ exact([1, 0], [1, 0], [-1, 0], [0, 1]) == pytest.approx([0, 0], abs=1e-9)
    assert min_norm(of([2, 1], [2, 1], [2, 1])).sum() == pytest.approx(1)
    assert min_norm(of([2, 1])).tolist() == [1]


# ── PCGrad ──


def projected(vectors: Tensor, orders: list[list[int]]) -> Tensor:
    """The published algorithm on the vectors themselves."""
    found = []
    for k, order in enumerate(orders):
        own = vectors[k].clone()
        for j in order:
            against = own @ vectors[j]
            if j != k and against < 0:
                own = own - against / (vectors[j] @ vectors[j]) * vectors[j]
        found.append(own)
    return torch.stack(found).sum(0)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ([3, 0], [0, 4], [1, 1]),
        ([2, 1], [2, 1], [1, 1]),
        ([1, 0], [-3, 0], [4, 4 / 3]),  # g1 + 1/3·g2 and g2 + 3·g1, both 0
        ([2, 0], [-1, 1], [1.5, 2.0]),  # ⟨g1, g2⟩ = −2: g1 + 2/2·g2, g2 + 2/4·g1
    ],
)
def test_pcgrad_of_two_by_hand(one: list[float], other: list[float], wanted: list[float]) -> None:
    weights, vectors = pcgrad(of(one, other)), exact(one, other)
    assert weights.tolist() == pytest.approx(wanted)
    direction = weights @ vectors
    assert (vectors @ direction >= -1e-12).all()  # of two, no reward falls


@pytest.mark.parametrize("seed", range(6))
def test_pcgrad_is_the_published_algorithm(seed: int) -> None:
    vectors = some(seed, 4, 3)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(4, generator=generator).tolist() for _ in range(4)]
    wanted = projected(vectors, orders)
    torch.testing.assert_close(pcgrad(gram(vectors), seed) @ vectors, wanted)


def test_orders_matter_for_three_alone() -> None:
    found = [pcgrad(gram(some(3, 3, 2)), seed) for seed in range(8)]
    assert any(not torch.allclose(a, b) for a, b in itertools.combinations(found, 2))
    two = gram(exact([2, 0], [-1, 1]))
    assert len({tuple(pcgrad(two, seed).tolist()) for seed in range(8)}) == 1
