"""Each transition against hand-computed numbers, its neighbours, diffusers, and the marginals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from likewise.algorithm import transitions as tr
from likewise.algorithm.schedule import shifted_sigmas


def dance(x: Tensor, v: Tensor, sigma: tr.Level, sigma_next: tr.Level) -> tuple[Tensor, Tensor]:
    return tr.dance_sde(x, v, sigma, sigma_next, 0.4)


def flow(x: Tensor, v: Tensor, sigma: tr.Level, sigma_next: tr.Level) -> tuple[Tensor, Tensor]:
    return tr.flow_sde(x, v, sigma, sigma_next, 0.7, 0.98)


def cps(x: Tensor, v: Tensor, sigma: tr.Level, sigma_next: tr.Level) -> tuple[Tensor, Tensor]:
    return tr.cps(x, v, sigma, sigma_next, 0.6)


SHAPED = pytest.mark.parametrize("transition", [tr.ode, dance, flow, cps])
RANDOM = pytest.mark.parametrize("transition", [dance, flow, cps])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


# ── by hand: x = 1, v = 2, σ = ½ → ¼, hence dt = −¼, x0 = 0, x1 = 2 ──


def test_ode_by_hand() -> None:
    mean, std = tr.ode(one(1), one(2), 0.5, 0.25)
    assert (mean.item(), std.item()) == (0.5, 0)


def test_dance_sde_by_hand() -> None:
    # (x − ½·x0)/σ² = 4;  ½·0.16·4·(−¼) = −0.08
    mean, std = tr.dance_sde(one(1), one(2), 0.5, 0.25, eta=0.4)
    assert mean.item() == pytest.approx(0.5 - 0.08)
    assert std.item() == pytest.approx(0.4 * 0.5)


def test_flow_sde_by_hand() -> None:
    # s² = 0.49·0.5/0.5 = 0.49;  x·(1 − 0.1225) + 2·(1 + 0.245)·(−¼)
    mean, std = tr.flow_sde(one(1), one(2), 0.5, 0.25, noise_level=0.7, sigma_max=0.9)
    assert mean.item() == pytest.approx(0.8775 - 0.6225)
    assert std.item() == pytest.approx(0.7 * 0.5)


def test_cps_by_hand() -> None:
    # a = ⅓: sin(π/6) = ½;  ¾·0 + ¼·cos(π/6)·2
    mean, std = tr.cps(one(1), one(2), 0.5, 0.25, noise_level=1 / 3)
    assert mean.item() == pytest.approx(0.25 * math.sqrt(3) / 2 * 2)
    assert std.item() == pytest.approx(0.125)


def test_ddim_by_hand() -> None:
    # ᾱ = 0.36 → 0.64, η = 1: var = (0.36/0.64)·(1 − 0.36/0.64) = 0.5625·0.4375
    # ε = 0.5, x = 1: x0 = (1 − 0.8·0.5)/0.6 = 1;  mean = 0.8·1 + √(0.36 − var)·0.5
    variance = 0.5625 * 0.4375
    mean, std = tr.ddim(one(1), one(0.5), 0.36, 0.64, eta=1.0)
    assert std.item() == pytest.approx(math.sqrt(variance))
    assert mean.item() == pytest.approx(0.8 + math.sqrt(0.36 - variance) * 0.5)


def test_log_prob_by_hand() -> None:
    sample, mean = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2)
    constant = -math.log(2) - 0.5 * math.log(2 * math.pi)
    expected = [-(1 + 9) / 2 / 8 + constant, constant]
    assert tr.gaussian_log_prob(sample, mean, 2.0).tolist() == pytest.approx(expected)


# ── neighbours: one formula derived from another ──


@pytest.mark.parametrize("sigma, sigma_next", [(1.0, 0.9), (0.5, 0.25), (0.1, 0.0)])
def test_without_noise_every_transition_is_the_ode(sigma: float, sigma_next: float) -> None:
    x, v = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    expected, _ = tr.ode(x, v, sigma, sigma_next)
    for mean, std in (
        tr.dance_sde(x, v, sigma, sigma_next, 0.0),
        tr.flow_sde(x, v, sigma, sigma_next, 0.0, 0.9),
        tr.cps(x, v, sigma, sigma_next, 0.0),
    ):
        torch.testing.assert_close(mean, expected)
        assert std.item() == 0


@pytest.mark.parametrize("sigma, sigma_next", [(1.0, 0.9), (0.5, 0.25), (0.1, 0.0)])
def test_flow_sde_is_dance_sde_at_its_own_rate(sigma: float, sigma_next: float) -> None:
    # Both discretise dx = (v − ½s²·score)·dt + s·dw; only the rate s differs.
    x, v = draw(3, 6).double(), draw(3, 6, seed=1).double()
    rate = 0.7 * math.sqrt(sigma / (1 - min(sigma, 0.9)))
    one = tr.flow_sde(x, v, sigma, sigma_next, 0.7, 0.9)
    torch.testing.assert_close(one, tr.dance_sde(x, v, sigma, sigma_next, rate))


def test_flow_sde_at_the_top_uses_the_second_level() -> None:
    x, v = draw(2, 3), draw(2, 3, seed=1)
    _, std = tr.flow_sde(x, v, 1.0, 0.96, 0.7, sigma_max=0.96)
    assert std.item() == pytest.approx(0.7 * math.sqrt(1 / 0.04) * math.sqrt(0.04))
    # A first level off by one rounding must not explode.
    for first in (1 - 2**-24, 1 + 2**-23):
        mean, nearly = tr.flow_sde(x, v, first, 0.96, 0.7, sigma_max=0.96)
        assert nearly.item() == pytest.approx(std.item(), rel=1e-5) and mean.isfinite().all()


def test_last_steps() -> None:
    x, v = draw(2, 3), draw(2, 3, seed=1)
    assert tr.dance_sde(x, v, 0.1, 0.0, 0.4)[1].item() == pytest.approx(0.4 * math.sqrt(0.1))
    mean, std = tr.cps(x, v, 0.1, 0.0, 0.6)
    assert std.item() == 0
    torch.testing.assert_close(mean, x - 0.1 * v)
    with pytest.raises(ValueError, match="deterministic"):
        tr.gaussian_log_prob(mean, mean, std)


# ── parity with diffusers ──


def test_ode_is_diffusers_to_the_last_bit() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sigmas = shifted_sigmas(8, 3.0)
    scheduler.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])
    ours = theirs = draw(2, 16, 8)
    for step, timestep in enumerate(scheduler.timesteps):
        v = draw(2, 16, 8, seed=step + 1)
        theirs = scheduler.step(v, timestep, theirs).prev_sample
        ours, _ = tr.ode(ours, v, sigmas[step], sigmas[step + 1])
        assert torch.equal(ours, theirs), step


@pytest.mark.parametrize("parameterization", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_diffusers(parameterization: tr.Parameterization, eta: float) -> None:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        prediction_type=parameterization,
    )
    scheduler.set_timesteps(10)
    alphas = [*scheduler.alphas_cumprod[scheduler.timesteps].tolist(), 1.0]
    for step, timestep in enumerate(scheduler.timesteps):
        x, output, noise = (draw(2, 4, 8, 8, seed=3 * step + i) for i in range(3))
        mean, std = tr.ddim(x, output, alphas[step], alphas[step + 1], eta, parameterization)
        theirs = scheduler.step(output, timestep, x, eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(mean + std * noise, theirs, rtol=1e-4, atol=1e-5)
        if timestep > 0 and step < 9:
            variance = scheduler._get_variance(timestep, timestep - 100)
            assert std.item() == pytest.approx(eta * variance.sqrt().item(), rel=1e-3)
        assert (std.item() == 0) == (eta == 0 or step == 9)


def test_ddim_v_and_epsilon_agree_on_the_same_prediction() -> None:
    x0, noise, alpha = draw(2, 5).double(), draw(2, 5, seed=1).double(), 0.3
    x = math.sqrt(alpha) * x0 + math.sqrt(1 - alpha) * noise
    v = math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * x0
    torch.testing.assert_close(
        tr.ddim(x, noise, alpha, 0.8, 0.7, "epsilon"),
        tr.ddim(x, v, alpha, 0.8, 0.7, "v_prediction"),
    )


def test_ddim_survives_rounding_just_before_the_image() -> None:
    # Found by search: in float32, 1 − ᾱ' − std² is −1e-14 here, whose root is NaN.
    x = draw(2, 5)
    mean, _ = tr.ddim(x, x, 0.4144154489040375, 1 - 3 * 2**-24, eta=1.0)
    assert mean.isfinite().all()


def test_ddim_from_pure_noise() -> None:
    # Zero terminal SNR: v-prediction still knows the image, ε-prediction does not.
    x, v = draw(2, 5), draw(2, 5, seed=1)
    mean, _ = tr.ddim(x, v, 0.0, 0.36, 0.0, "v_prediction")
    torch.testing.assert_close(mean, 0.6 * -v + 0.8 * x)
    with pytest.raises(ValueError, match="pure noise"):
        tr.ddim(x, v, 0.0, 0.36, 0.0, "epsilon")


# ── the marginals: noise is added without changing what is drawn ──


def gaussian_velocity(x: Tensor, sigma: float, centre: float, width: float) -> Tensor:
    """Exact E[noise − image | x] for images N(centre, width²), x = (1 − σ)·image + σ·noise."""
    variance = (1 - sigma) ** 2 * width**2 + sigma**2
    surprise = (x - (1 - sigma) * centre) / variance
    return sigma * surprise - (centre + (1 - sigma) * width**2 * surprise)


@pytest.mark.parametrize("name", ["ode", "dance", "flow", "cps"])
def test_marginals_are_preserved_by_monte_carlo(name: str) -> None:
    """Along the whole run, mean and std of 40 000 draws are those of (1 − σ)·image + σ·noise."""
    # CPS adds noise of size σ' at *every* step, so it keeps the marginal only for a single image.
    centre, width = 1.5, (1e-6 if name == "cps" else 0.5)
    sigmas = shifted_sigmas(160, 1.0).double().tolist()
    step: dict[str, Callable] = {
        "ode": tr.ode,
        "dance": lambda *a: tr.dance_sde(*a, 0.8),
        "flow": lambda *a: tr.flow_sde(*a, 0.7, sigmas[1]),
        "cps": lambda *a: tr.cps(*a, 0.6),
    }
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40_000, 1, generator=generator)
    # All but the last step, whose noise in Dance-SDE no later one removes.
    for level, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas[:-1]), start=1):
        v = gaussian_velocity(x, sigma, centre, width)
        mean, std = step[name](x, v, sigma, sigma_next)
        x = mean + std * torch.randn(x.shape, generator=generator)
        if level in (40, 80, 120, 159):
            expected = math.hypot((1 - sigma_next) * width, sigma_next)
            assert x.mean().item() == pytest.approx((1 - sigma_next) * centre, abs=0.03)
            assert x.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("sigma_next", [0.6, 0.25, 0.0])
def test_cps_keeps_exactly_the_next_level_of_noise(sigma_next: float) -> None:
    """For a perfect denoiser: the image's share is 1 − σ', the variance of the noise σ'²."""
    x0, noise, sigma = draw(1, 50).double(), draw(2000, 50, seed=1).double(), 0.7
    x = (1 - sigma) * x0 + sigma * noise
    mean, std = tr.cps(x, noise - x0, sigma, sigma_next, 0.6)
    kept = mean - (1 - sigma_next) * x0  # = √(σ'² − s²)·noise
    torch.testing.assert_close(
        kept.var() + std**2, sigma_next**2 * noise.var(), rtol=0.02, atol=1e-9
    )
    torch.testing.assert_close(kept, (sigma_next**2 - std**2).sqrt() * noise)


# ── forms: shapes, dtypes, samples ──


@SHAPED
def test_levels_per_sample_equal_one_by_one(transition: Callable) -> None:
    x, v = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    sigma, sigma_next = torch.tensor([1.0, 0.6, 0.3]), torch.tensor([0.8, 0.5, 0.1])
    mean, std = transition(x, v, sigma, sigma_next)
    assert mean.shape == x.shape and std.shape == (3, 1, 1)
    for b in range(3):
        alone = transition(x[b : b + 1], v[b : b + 1], sigma[b].item(), sigma_next[b].item())
        torch.testing.assert_close(mean[b : b + 1], alone[0])
        torch.testing.assert_close(std[b].squeeze(), alone[1])


@SHAPED
def test_low_precision_is_computed_in_float32(transition: Callable) -> None:
    x, v = draw(2, 6).bfloat16(), draw(2, 6, seed=1).bfloat16()
    mean, std = transition(x, v, 0.5, 0.25)
    assert mean.dtype == std.dtype == torch.float32
    assert torch.equal(mean, transition(x.float(), v.float(), 0.5, 0.25)[0])


@SHAPED
@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.25, 0.5), (0.5, -0.1), (750.0, 700.0)])
def test_levels_that_do_not_fall_are_refused(transition: Callable, levels: tuple) -> None:
    with pytest.raises(ValueError, match="sigma_next < sigma"):
        transition(torch.zeros(2, 3), torch.zeros(2, 3), *levels)


@SHAPED
def test_shapes_that_do_not_fit_are_refused(transition: Callable) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        transition(torch.zeros(2, 3), torch.zeros(1, 3), 0.5, 0.25)
    with pytest.raises(ValueError, match="3 numbers for 2 samples"):
        transition(torch.zeros(2, 3), torch.zeros(2, 3), torch.full((3,), 0.5), 0.25)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: tr.dance_sde(x, x, 0.5, 0.25, -0.1),
        lambda x: tr.flow_sde(x, x, 0.5, 0.25, -0.1, 0.9),
        lambda x: tr.flow_sde(x, x, 0.5, 0.25, 0.7, 1.0),
        lambda x: tr.cps(x, x, 0.5, 0.25, 1.1),
        lambda x: tr.cps(x, x, 0.5, 0.25, -0.1),
        lambda x: tr.ddim(x, x, 0.5, 0.25, 0.0),
        lambda x: tr.ddim(x, x, 0.5, 1.25, 0.0),
        lambda x: tr.ddim(x, x, 0.5, 0.75, 1.5),
        lambda x: tr.ddim(x, x, 0.5, 0.75, 0.0, "sample"),
        lambda x: tr.gaussian_log_prob(x, x[:1], 1.0),
        lambda x: tr.gaussian_log_prob(x[0], x[0], 1.0),
        lambda x: tr.gaussian_log_prob(x, x, 0.0),
        lambda x: tr.gaussian_log_prob(x, x, torch.tensor([1.0, -1.0])),
    ],
)
def test_bad_numbers_are_refused(call: Callable) -> None:
    with pytest.raises(ValueError):
        call(torch.zeros(2, 3))


# ── log-prob ──


def test_log_prob_is_torch_normal_averaged() -> None:
    sample, mean, std = draw(3, 4, 5), draw(3, 4, 5, seed=1), torch.tensor([0.1, 1.0, 3.0])
    normal = torch.distributions.Normal(mean, std[:, None, None])
    expected = normal.log_prob(sample).mean((1, 2))
    torch.testing.assert_close(tr.gaussian_log_prob(sample, mean, std), expected)
    torch.testing.assert_close(tr.gaussian_log_prob(sample, mean, std[:, None, None]), expected)


def test_log_prob_does_not_grow_with_resolution() -> None:
    sample, mean = draw(2, 8), draw(2, 8, seed=1)
    small = tr.gaussian_log_prob(sample, mean, 0.5)
    torch.testing.assert_close(tr.gaussian_log_prob(sample.tile(1, 9), mean.tile(1, 9), 0.5), small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replaying_a_stored_sample_gives_the_same_log_prob(dtype: torch.dtype) -> None:
    x, v = draw(2, 64).to(dtype), draw(2, 64, seed=1).to(dtype)
    mean, std = dance(x, v, 0.5, 0.25)
    stored = (mean + std * draw(2, 64, seed=2)).to(dtype)
    old = tr.gaussian_log_prob(stored, mean, std)
    new = tr.gaussian_log_prob(stored, *dance(x, v, 0.5, 0.25))
    assert old.dtype == torch.float32 and torch.equal((new - old).exp(), torch.ones(2))


@RANDOM
def test_gradient_reaches_the_velocity(transition: Callable) -> None:
    x, v = draw(2, 5).double(), draw(2, 5, seed=1).double().requires_grad_()
    sample = draw(2, 5, seed=2).double()
    assert torch.autograd.gradcheck(
        lambda v: tr.gaussian_log_prob(sample, *transition(x, v, 0.5, 0.25)), v
    )
