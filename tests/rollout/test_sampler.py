"""The sampler only looks up levels: the numbers are those of `transitions`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from likewise.algorithm import transitions
from likewise.algorithm.schedule import shifted_sigmas, variance_preserving_sigma
from likewise.rollout.sampler import Sampler

SIGMAS = shifted_sigmas(5, 3.0)
X, V = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)).unbind()


def expected(transition: str, t: int) -> tuple[Tensor, Tensor]:
    here, there = SIGMAS[t], SIGMAS[t + 1]
    if transition == "flow-sde":
        return transitions.flow_sde(X, V, here, there, 0.6, SIGMAS[1])
    function = {"dance-sde": transitions.dance_sde, "cps": transitions.cps}[transition]
    return function(X, V, here, there, 0.6)


@pytest.mark.parametrize("t", range(5))
@pytest.mark.parametrize("transition", ["flow-sde", "dance-sde", "cps"])
def test_stochastic_steps(transition: str, t: int) -> None:
    mean, std = Sampler(SIGMAS, transition, 0.6).stochastic(X, V, t)
    wanted_mean, wanted_std = expected(transition, t)
    assert torch.equal(mean, wanted_mean) and torch.equal(std, wanted_std)
    assert std.numel() == 1 and std >= 0
    assert (std == 0) == (transition == "cps" and t == 4)


@pytest.mark.parametrize("transition", ["flow-sde", "dance-sde", "cps"])
def test_a_step_is_the_mean_plus_so_much_noise(transition: str) -> None:
    noise = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1))
    drawn = Sampler(SIGMAS, transition, 0.6).step(X, V, 2, noise)
    mean, std = expected(transition, 2)
    assert torch.equal(drawn.following, mean + std * noise)
    assert torch.equal(drawn.mean, mean) and torch.equal(drawn.std, std)
    log_prob = torch.distributions.Normal(mean, std).log_prob(drawn.following).mean((1, 2))
    torch.testing.assert_close(drawn.log_prob(), log_prob)


@pytest.mark.parametrize("t", range(5))
def test_deterministic_steps_follow_the_ode(t: int) -> None:
    there = Sampler(SIGMAS, "flow-sde", 0.6).deterministic(X, V, t)
    torch.testing.assert_close(there, X + V * (SIGMAS[t + 1] - SIGMAS[t]), rtol=0, atol=1e-6)
    assert torch.equal(there, transitions.ode(X, V, SIGMAS[t], SIGMAS[t + 1])[0])


def test_bfloat16_latents_are_stepped_in_float32() -> None:
    sampler = Sampler(SIGMAS, "dance-sde", 0.6)
    mean, std = sampler.stochastic(X.bfloat16(), V.bfloat16(), 1)
    assert mean.dtype == std.dtype == sampler.deterministic(X.bfloat16(), V, 1).dtype
    assert mean.dtype == torch.float32


def test_number_of_steps() -> None:
    assert Sampler(SIGMAS, "cps", 0.6).num_steps == 5


def test_an_unknown_transition_is_refused() -> None:
    with pytest.raises(ValueError, match="no transition 'flow_sde'; did you mean 'flow-sde'"):
        Sampler(SIGMAS, "flow_sde", 0.6)


ALPHAS = torch.tensor([0.0047, 0.1, 0.6, 0.99915, 1.0])


@pytest.mark.parametrize("t", range(4))
@pytest.mark.parametrize("parameterization", ["epsilon", "v_prediction"])
def test_ddim_steps(parameterization: Any, t: int) -> None:
    sampler = Sampler(variance_preserving_sigma(ALPHAS), "ddim", 0.7, parameterization)
    here, there = ALPHAS[t], ALPHAS[t + 1]
    mean, std = sampler.stochastic(X, V, t)
    wanted_mean, wanted_std = transitions.ddim(X, V, here, there, 0.7, parameterization)
    assert torch.equal(mean, wanted_mean) and torch.equal(std, wanted_std)
    assert (std == 0) == (t == 3)  # the last step of set_alpha_to_one
    ode = transitions.ddim(X, V, here, there, 0.0, parameterization)[0]
    assert torch.equal(sampler.deterministic(X, V, t), ode)
    assert mean.dtype == std.dtype == torch.float32


@pytest.mark.parametrize(
    ("transition", "parameterization"),
    [("ddim", "flow"), ("flow-sde", "epsilon"), ("cps", "v_prediction")],
)
def test_a_transition_for_another_kind_of_model_is_refused(
    transition: str, parameterization: str
) -> None:
    with pytest.raises(ValueError, match=f"'{transition}' does not fit .* {parameterization}"):
        Sampler(SIGMAS, transition, 0.7, parameterization)
