"""Forward-process objectives against closed forms (docs/method.md §3), in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from likewise.algorithm import forward
from likewise.algorithm.objective import clipped_loss, ratio

B, SHAPE = 5, (4, 3)
EXACT = torch.float64
A = torch.tensor([1.5, -0.5, 0.0, 3.0, -2.0], dtype=EXACT)
KINDS = get_args(forward.Prediction)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=EXACT)


X0, NOISE, SIGMA = (
    normal(0, B, *SHAPE),
    normal(1, B, *SHAPE),
    torch.linspace(0.1, 0.9, B, dtype=EXACT),
)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    point = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(point).sum(), point)
    return found


def column(values: Tensor) -> Tensor:
    return values[:, None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_gives_back_the_image(kind: forward.Prediction) -> None:
    x = forward.noised(X0, NOISE, SIGMA, kind)
    u = forward.target(X0, NOISE, SIGMA, kind)
    torch.testing.assert_close(forward.predicted_x0(x, u, SIGMA, kind), X0)


def test_a_flow_goes_straight() -> None:
    x = forward.noised(X0, NOISE, SIGMA)
    torch.testing.assert_close(x, (1 - column(SIGMA)) * X0 + column(SIGMA) * NOISE)
    torch.testing.assert_close(forward.target(X0, NOISE, SIGMA), NOISE - X0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_nft_starts_as_weighted_matching(kind: forward.Prediction, beta: float) -> None:
    """At v = v_old the gradient is A·∇‖x̂0 − x0‖²/w, for |A| ≤ A_max."""
    x, v = forward.noised(X0, NOISE, SIGMA, kind), normal(2, B, *SHAPE)
    ours = gradient(lambda new: forward.nft_loss(new, v, x, X0, SIGMA, A, beta, 4.0, kind), v)
    apart = forward.predicted_x0(x, v, SIGMA, kind) - X0
    weight = apart.abs().mean((1, 2))

    def matching(new: Tensor) -> Tensor:
        error = (forward.predicted_x0(x, new, SIGMA, kind) - X0).square().mean((1, 2))
        return A * error / weight

    torch.testing.assert_close(ours, gradient(matching, v))
    assert not ours[2].any()  # without credit, nothing


def test_nft_without_credit_is_symmetric() -> None:
    x, old, change = forward.noised(X0, NOISE, SIGMA), normal(2, B, *SHAPE), normal(3, B, *SHAPE)
    losses = [
        forward.nft_loss(old + sign * change, old, x, X0, SIGMA, torch.zeros(B), 0.5, 4.0)
        for sign in (1, -1)
    ]
    torch.testing.assert_close(*losses)


def test_nft_of_a_good_image_is_plain_matching() -> None:
    """r = 1 and β = 1: the loss is A_max·‖x̂0 − x0‖²/w, whatever the old policy says."""
    x, v = forward.noised(X0, NOISE, SIGMA), normal(2, B, *SHAPE)
    best = torch.full((B,), 9.0)
    losses = [
        forward.nft_loss(v, normal(seed, B, *SHAPE), x, X0, SIGMA, best, 1.0, 4.0)
        for seed in (4, 5)
    ]
    apart = forward.predicted_x0(x, v, SIGMA) - X0
    wanted = 4 * apart.square().mean((1, 2)) / apart.abs().mean((1, 2))
    for loss in losses:
        torch.testing.assert_close(loss, wanted)


def test_nft_of_a_perfect_prediction_divides_by_the_floor() -> None:
    x, u = forward.noised(X0, NOISE, SIGMA), forward.target(X0, NOISE, SIGMA)
    loss = forward.nft_loss(u, u, x, X0, SIGMA, A, 1.0, 4.0)
    assert bool(loss.isfinite().all()) and bool((loss < 1e-9).all())


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_awm_starts_as_weighted_matching(power: float) -> None:
    """At v = v_old the ratio is exactly 1, and the gradient A·σ^power·∇‖v − u‖²."""
    u, v = forward.target(X0, NOISE, SIGMA), normal(2, B, *SHAPE)
    old = forward.matching_log_prob(v, u, SIGMA, power)

    def loss(new: Tensor) -> Tensor:
        ratios = ratio(forward.matching_log_prob(new, u, SIGMA, power), old)
        assert torch.equal(ratios, torch.ones(B, dtype=EXACT))
        return clipped_loss(ratios, A, 1.0).loss

    wanted = gradient(lambda new: (A * SIGMA**power * forward.squared_error(new, u)).mean(), v)
    torch.testing.assert_close(gradient(loss, v), wanted)


def test_crd_starts_as_weighted_matching() -> None:
    u, v = forward.target(X0, NOISE, SIGMA), normal(2, B, *SHAPE)
    ours = gradient(lambda new: forward.crd_loss(new, v, u, A, 0.7), v)
    torch.testing.assert_close(
        ours, gradient(lambda new: 2 * 0.7 * A * forward.squared_error(new, u), v)
    )
    solved = forward.squared_error(v, u) + A / 0.7  # an old policy whose error is so much larger
    old = u + column((solved).clamp_min(0).sqrt()) * torch.ones(B, *SHAPE, dtype=EXACT)
    reached = forward.crd_loss(v, old, u, A, 0.7)
    assert bool((reached[solved >= 0] < 1e-20).all())


def test_dgpo_apart_is_the_gradient_of_the_group() -> None:
    u, v, base = forward.target(X0, NOISE, SIGMA), normal(2, B, *SHAPE), normal(6, B, *SHAPE)
    beta = 3.0

    def whole(new: Tensor) -> Tensor:
        apart = forward.squared_error(new, u) - forward.squared_error(base, u)
        return torch.nn.functional.softplus(beta * (A * apart).mean())

    factor = forward.group_preference(
        forward.squared_error(v, u), forward.squared_error(base, u), A, beta
    )
    apart = gradient(lambda new: factor * beta / B * A * forward.squared_error(new, u), v)
    torch.testing.assert_close(apart, gradient(whole, v))
    assert 0 < float(factor) < 1


OLD = normal(7, B, *SHAPE)
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "awm": lambda v: forward.matching_log_prob(v, forward.target(X0, NOISE, SIGMA), SIGMA, 1.0),
    "crd": lambda v: forward.crd_loss(v, OLD, forward.target(X0, NOISE, SIGMA), A, 0.5),
    "norm": lambda v: forward.norm_penalty(v, 0.7 * OLD),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_slopes(name: str) -> None:
    """By central differences, away from the old policy."""
    assert torch.autograd.gradcheck(LOSSES[name], normal(2, B, *SHAPE).requires_grad_())


def test_gradients_of_nft_are_slopes_at_constant_weight() -> None:
    x, v, beta, most = forward.noised(X0, NOISE, SIGMA), normal(2, B, *SHAPE), 0.5, 2.0
    share = 0.5 + 0.5 * (A / most).clamp(-1, 1)
    apart = {
        sign: lambda new, sign=sign: (
            forward.predicted_x0(x, OLD + sign * beta * (new - OLD), SIGMA) - X0
        )
        for sign in (1, -1)
    }
    weights = {sign: apart[sign](v).abs().mean((1, 2)) for sign in (1, -1)}

    def written_out(new: Tensor) -> Tensor:
        good, bad = (apart[sign](new).square().mean((1, 2)) / weights[sign] for sign in (1, -1))
        return (share * good + (1 - share) * bad) * most / beta

    assert torch.autograd.gradcheck(written_out, v.clone().requires_grad_())
    ours = gradient(lambda new: forward.nft_loss(new, OLD, x, X0, SIGMA, A, beta, most), v)
    torch.testing.assert_close(ours, gradient(written_out, v))


def test_the_norm_guard_acts_on_growth_alone() -> None:
    v = normal(2, B, *SHAPE)
    torch.testing.assert_close(forward.norm_ratio(1.2 * v, v), torch.full((B,), 1.2, dtype=EXACT))
    torch.testing.assert_close(
        forward.norm_penalty(1.2 * v, v), torch.full((B,), 0.04, dtype=EXACT)
    )
    assert not forward.norm_penalty(0.8 * v, v).any()
