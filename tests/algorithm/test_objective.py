"""The clipped objective term by term, its gradient, GRPO-Guard and KL."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likewise.algorithm import objective as ob
from likewise.algorithm.transitions import cps, dance_sde, flow_sde, gaussian_log_prob


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logs(*ratios: float) -> Tensor:
    return torch.tensor(ratios, dtype=torch.float64).log()


def clipped(new: Tensor, old: Tensor, *more: object) -> ob.Objective:
    """The clipped loss from log-probs."""
    return ob.clipped_loss(ob.ratio(new, old), *more)  # type: ignore[arg-type]


def loss_and_slope(ratio: float, advantage: float, clip_range: float = 0.1) -> tuple[float, float]:
    new = logs(ratio).requires_grad_()
    loss = clipped(new, logs(1.0), torch.tensor([advantage]), clip_range).loss
    loss.backward()
    assert new.grad is not None
    return loss.item(), new.grad.item()


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",  # slope by log p_new: −A·ratio where not clipped
    [
        (1.05, +2.0, -2.10, -2.10),
        (0.95, +2.0, -1.90, -1.90),
        (1.50, +2.0, -2.20, 0.0),  # far enough in the direction that A pushes to
        (0.50, +2.0, -1.00, -1.00),  # wrong direction: never clipped
        (0.50, -2.0, +1.80, 0.0),
        (1.50, -2.0, +3.00, +3.00),
        (1.50, 0.0, 0.0, 0.0),
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, loss: float, slope: float) -> None:
    assert loss_and_slope(ratio, advantage) == (pytest.approx(loss), pytest.approx(slope))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_before_the_first_update(dtype: torch.dtype) -> None:
    log_prob, A = draw(6, 4).to(dtype), draw(6, 4, seed=1).float()
    result = clipped(log_prob, log_prob.clone(), A, 1e-4)
    assert result.loss.item() == pytest.approx(-A.mean().item())
    assert result.loss.dtype == torch.float32
    assert (result.ratio_mean.item(), result.ratio_deviation.item()) == (1, 0)
    assert (result.clip_fraction.item(), result.silenced_fraction.item()) == (0, 0)


def test_statistics_by_hand() -> None:
    new, A = logs(1.0, 1.2, 1.2, 0.7), torch.tensor([1.0, 1.0, -1.0, -1.0])
    result = clipped(new, torch.zeros_like(new), A, 0.1)
    assert result.ratio_mean.item() == pytest.approx(4.1 / 4)
    assert result.ratio_deviation.item() == pytest.approx(0.3)
    assert result.clip_fraction.item() == pytest.approx(3 / 4)
    assert result.silenced_fraction.item() == pytest.approx(2 / 4)


def test_silenced_terms_are_those_without_gradient() -> None:
    new = (0.2 * draw(500)).requires_grad_()
    A = draw(500, seed=1)
    result = clipped(new, torch.zeros(500), A, 0.1)
    result.loss.backward()
    assert new.grad is not None
    assert result.silenced_fraction.item() == pytest.approx((new.grad == 0).double().mean().item())
    assert 0 < result.silenced_fraction < result.clip_fraction < 1


def test_gradient_equals_finite_differences() -> None:
    new, old, A = (0.2 * draw(20)).requires_grad_(), 0.2 * draw(20, seed=1), draw(20, seed=2)
    assert torch.autograd.gradcheck(lambda new: clipped(new, old, A, 0.1).loss, new)


def test_only_the_new_policy_gets_a_gradient() -> None:
    new, old, A = (torch.zeros(3, requires_grad=True) for _ in range(3))
    result = clipped(new, old, A + 1, 0.1)
    result.loss.backward()
    assert new.grad is not None and old.grad is None and A.grad is None
    assert not result.ratio_mean.requires_grad


def test_equal_parts_average_to_the_whole() -> None:
    new, old, A = 0.2 * draw(8, 3), 0.2 * draw(8, 3, seed=1), draw(8, 3, seed=2)
    parts = [clipped(new[i], old[i], A[i], 0.1).loss for i in range(8)]
    whole = clipped(new, old, A, 0.1).loss
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_weight_multiplies_each_term() -> None:
    new, A, weight = logs(1.05, 1.5), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0])
    result = clipped(new, torch.zeros(2), A, 0.1, weight)
    assert result.loss.item() == pytest.approx(-(2.1 + 3 * 2.2) / 2)


def test_inverse_dt() -> None:
    sigma = torch.tensor([1.0, 0.75, 0.25])
    assert ob.inverse_dt(sigma[:-1], sigma[1:]).tolist() == [4, 2]


# ── KL ──


def test_kl_by_hand() -> None:
    mean, reference = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0], [0, 4]])
    kl = ob.gaussian_kl(mean, reference, torch.tensor([0.5, 2.0]))
    assert kl.tolist() == pytest.approx([2.5 / 0.5, 8 / 8])


def test_kl_is_torch_normal_averaged_and_takes_a_transition_std() -> None:
    x, v = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    levels = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.8, 0.3, 0.0])
    mean, std = dance_sde(x, v, *levels, 0.4)
    reference, _ = dance_sde(x, v * 1.1, *levels, 0.4)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, std.expand_as(mean)), normal(reference, std.expand_as(mean))
    )
    torch.testing.assert_close(ob.gaussian_kl(mean, reference, std), expected.mean((1, 2)))


def test_kl_std_includes_the_square_root_of_dt() -> None:
    """Δmean ~ dt, std² ~ dt: KL shrinks with dt; without √(−dt) it would with dt²."""
    x, v = draw(1, 6), draw(1, 6, seed=1)
    kl = []
    for dt in (1e-3, 5e-4):
        mean, std = dance_sde(x, v, 0.5, 0.5 - dt, 0.4)
        reference, _ = dance_sde(x, v + 0.1, 0.5, 0.5 - dt, 0.4)
        kl.append(ob.gaussian_kl(mean, reference, std).item())
    assert kl[0] / kl[1] == pytest.approx(2)


# ── GRPO-Guard ──


def guard_case(transition: Callable, levels: tuple[float, float]) -> tuple[Tensor, ...]:
    x, v = draw(2, 50), draw(2, 50, seed=1)
    mean_old, std = transition(x, v, *levels)
    mean_new, _ = transition(x, v + 0.3 * draw(2, 50, seed=2), *levels)
    return mean_new, mean_old, std, draw(2, 50, seed=3)


@pytest.mark.parametrize("levels", [(0.9, 0.8), (0.3, 0.05)])
@pytest.mark.parametrize(
    "name, transition",
    [
        ("dance-sde", lambda *a: dance_sde(*a, 0.4)),
        ("flow-sde", lambda *a: flow_sde(*a, 0.7, 0.96)),
    ],
)
def test_guarded_log_ratio_is_the_shift_along_the_noise(
    name: str, transition: Callable, levels: tuple[float, float]
) -> None:
    mean_new, mean_old, std, noise = guard_case(transition, levels)
    sample = mean_old + std * noise
    new, old = (gaussian_log_prob(sample, m, std) for m in (mean_new, mean_old))
    guarded = ob.guarded_ratio(new, old, mean_new, mean_old, std, name).log()
    torch.testing.assert_close(guarded, ((mean_new - mean_old) * noise).mean(1))
    # Without the guard the mean over noise lies below 0.
    assert (new - old).mean() < guarded.mean() / std.item()


def test_guarded_ratio_is_one_at_first_and_has_a_gradient() -> None:
    mean_old = draw(3, 5)
    mean_new = mean_old.clone().requires_grad_()
    sample, std = draw(3, 5, seed=1), torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    new, old = (gaussian_log_prob(sample, m, std) for m in (mean_new, mean_old))
    ratio = ob.guarded_ratio(new, old, mean_new, mean_old, std, "dance-sde")
    assert torch.equal(ratio, torch.ones_like(ratio))
    ob.clipped_loss(ratio, torch.ones(3), 1e-4).loss.backward()
    # −d/dμ of mean_b mean_d(Δμ·ε) with ε = (sample − μ)/std
    expected = -(sample - mean_old) / std[:, None] / 15
    torch.testing.assert_close(mean_new.grad, expected)


@pytest.mark.parametrize("transition", ["cps", "ddim", "ode", "dance_sde"])
def test_guard_is_refused_elsewhere(transition: str) -> None:
    log_prob, mean = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="GRPO-Guard is valid only for flow-sde and dance-sde"):
        ob.guarded_ratio(log_prob, log_prob, mean, mean, 0.1, transition)


@pytest.mark.parametrize(
    "call",
    [
        lambda z: clipped(z, z[:1], z, 0.1),
        lambda z: clipped(z, z, z[:, None], 0.1),
        lambda z: clipped(z, z, z, 0.0),
        lambda z: clipped(z, z, z, math.nan),
        lambda z: clipped(z, z, z, 0.1, z[:1]),
        lambda z: ob.ratio(z, z[None]),
        lambda z: ob.gaussian_kl(torch.zeros(2, 3), torch.zeros(1, 3), 1.0),
        lambda z: ob.gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3)),
        lambda z: ob.guarded_ratio(z, z, z[:, None], z[:1, None], 1.0, "flow_sde"),
    ],
)
def test_shapes_and_ranges_are_checked(call: Callable) -> None:
    with pytest.raises(ValueError):
        call(torch.zeros(2))


def test_cps_trains_with_the_plain_ratio() -> None:
    x, v = draw(2, 5), draw(2, 5, seed=1)
    mean, std = cps(x, v, 0.5, 0.25, 0.6)
    log_prob = gaussian_log_prob(mean + std * draw(2, 5, seed=2), mean, std)
    assert torch.equal(ob.ratio(log_prob, log_prob), torch.ones(2, dtype=torch.float64))
