"""The update's gradient is that of the written-out loss, and its ratios start at exactly 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rolling import LinearPolicy, plan, roll, sampler
from tiny import make_policy
from torch import Tensor
from torch.nn import functional as F

from likewise.algorithm import transitions
from likewise.config.objectives import Grpo
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.rollout.trajectories import Trajectory
from likewise.trainer.checks import TrainingError, check_ratio
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update, UpdateSums

EXACT = torch.float64
CLIP = 0.002  # some ratios of `moved` are outside, some inside
SETTINGS = [
    {},
    {"guard": True},
    {"inverse_dt": True},
    {"kl": 0.3},
    {"guard": True, "inverse_dt": True, "kl": 0.3},
]
WAYS = [
    (transition, settings)
    for transition in ("flow-sde", "dance-sde", "cps")
    for settings in SETTINGS
    if not (transition == "cps" and "guard" in settings)  # refused by the recipe
]


def credits(samples: int = 6, steps: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(samples, steps, generator=generator)


def moved(dtype: torch.dtype = EXACT, amount: float = 0.02) -> tuple[LinearPolicy, LinearPolicy]:
    """The policy that drew, and one that learned a little since."""
    old, new = LinearPolicy(dtype), LinearPolicy(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in new.trainable_parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return old, new


def replay(policy: Any, transition: str = "flow-sde", **settings: Any) -> Update:
    objective = Grpo(clip_range=CLIP, **settings)
    return Update(Trained(policy, sampler(policy, 4, transition), objective))


def gradients(policy: Any) -> list[Tensor]:
    found = [p.grad for p in policy.trainable_parameters()]
    for parameter in policy.trainable_parameters():
        parameter.grad = None
    return [torch.zeros(1) if one is None else one for one in found]


def mean_and_std(
    policy: LinearPolicy, transition: str, x: Tensor, t: int, c: Tensor, parts: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    sigmas = policy.sigmas(4, None).to(x)
    v = x @ parts[0].T + sigmas[t] * parts[1] + c[:, None]
    if transition == "flow-sde":
        return transitions.flow_sde(x, v, sigmas[t], sigmas[t + 1], 0.7, sigmas[1])
    function = {"dance-sde": transitions.dance_sde, "cps": transitions.cps}[transition]
    return function(x, v, sigmas[t], sigmas[t + 1], 0.7)


def written_out(
    parts: Sequence[Tensor], policy: LinearPolicy, drawn: Trajectory, A: Tensor,
    transition: str, kl: float = 0.0, guard: bool = False, inverse_dt: bool = False,
) -> Tensor:  # fmt: skip
    """docs/method.md §3, one term after another."""
    total, terms = torch.zeros((), dtype=EXACT), 0
    sigmas = policy.sigmas(4, None).to(EXACT)
    c = drawn.condition.vectors  # type: ignore[attr-defined]
    for one in drawn.stored:
        t = one.step
        mean, std = mean_and_std(policy, transition, one.x, t, c, parts)
        reference, _ = mean_and_std(policy, transition, one.x, t, c, policy.reference)
        new = torch.distributions.Normal(mean, std).log_prob(one.following)
        for b, index in enumerate(drawn.indices):
            log_ratio = new[b].mean() - one.log_prob[b]
            if guard:
                bias = (mean[b] - one.mean[b]).square().mean() / (2 * std.squeeze() ** 2)
                log_ratio = std.squeeze() * (log_ratio + bias)
            ratio, credit = log_ratio.exp(), A[index, t].to(EXACT)
            plain, clipped = -credit * ratio, -credit * ratio.clamp(1 - CLIP, 1 + CLIP)
            loss = torch.maximum(plain, clipped)
            if inverse_dt:
                loss = loss / (sigmas[t] - sigmas[t + 1])
            distance = (mean[b] - reference[b]).square().mean() / (2 * std.squeeze() ** 2)
            total, terms = total + loss + kl * distance, terms + 1
    return total / terms


@pytest.mark.parametrize("transition, settings", WAYS, ids=str)
def test_the_gradient_is_that_of_the_written_out_loss(
    transition: str, settings: dict[str, Any]
) -> None:
    old, new = moved()
    (drawn,) = roll(old, plan([0, 1, 2], [0, 2]), transition=transition, means=True)
    A = credits()
    sums = replay(new, transition, **settings).gradient([drawn], A, 6 * 2)
    ours = gradients(new)

    parts = [p.detach().clone().requires_grad_() for p in new.trainable_parameters()]
    loss = written_out(parts, new, drawn, A, transition, **settings)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, parts), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
        assert mine.norm() > 1e-3
    found = (sums.sums["loss"] + settings.get("kl", 0.0) * sums.sums["kl"]) / sums.terms
    assert found == pytest.approx(float(loss.detach()), rel=1e-6)
    assert sums.terms == 12
    if not settings.get("guard"):
        silenced, clipped = sums.sums["silenced_fraction"], sums.sums["clip_fraction"]
        assert 0 < silenced < clipped < 12  # all cases of the clipping took part
    assert sums.most["ratio_deviation"] > 1e-3


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_gradient_is_the_slope_of_the_loss(settings: dict[str, Any]) -> None:
    """Central differences of what the update itself reports, in float64."""
    old, new = moved()
    (drawn,) = roll(old, plan([0, 1, 2]), means=True)
    A, how = credits(), replay(new, **settings)

    def loss() -> float:
        sums = how.gradient([drawn], A, 18)
        gradients(new)
        return (sums.sums["loss"] + settings.get("kl", 0.0) * sums.sums["kl"]) / sums.terms

    how.gradient([drawn], A, 18)
    for parameter, slope in zip(new.trainable_parameters(), gradients(new), strict=True):
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            start, ends = float(flat[i]), []
            for step in (1e-6, -1e-6):
                flat[i] = start + step
                ends.append(loss())
            flat[i] = start
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(
                float(slope.view(-1)[i]), rel=1e-4, abs=1e-7
            )


# ── splitting ──


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_micro_batches_do_not_change_the_gradient(settings: dict[str, Any]) -> None:
    old, new = moved()
    A, answers = credits(), []
    for micro in (6, 1, 4):
        drawn = roll(old, plan([1, 2]), micro=micro, means=True)
        sums = replay(new, **settings).gradient(drawn, A, 12)
        answers.append((gradients(new), sums))
    for ours, sums in answers[1:]:
        for mine, whole in zip(ours, answers[0][0], strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-9, atol=1e-12)
        for name, value in vars(answers[0][1]).items():
            assert getattr(sums, name) == pytest.approx(value, rel=1e-6), name


def test_processes_add_up_to_the_whole() -> None:
    """Shares of 1 and 5 samples, each averaged over all terms of the update."""
    old, new = moved()
    A, how = credits(), replay(new)
    how.gradient(roll(old, plan([1, 2])), A, 12)
    whole = gradients(new)
    alone = roll(old, plan([1, 2]), micro=1)
    how.gradient(alone[:1], A, 12)
    first = gradients(new)
    how.gradient(alone[1:], A, 12)
    for a, b, both in zip(first, gradients(new), whole, strict=True):
        torch.testing.assert_close(a + b, both, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_micro_batches_of_a_transformer(kind: str) -> None:
    policy = trained_policy(kind)
    A, answers = credits(4), []
    for micro in (4, 3):
        drawn = roll(policy, plan([1, 2]), group=2, micro=micro)
        replay(policy).gradient(drawn, A, 8)
        answers.append(gradients(policy))
    scale = max(float(one.abs().max()) for one in answers[0])
    assert scale > 1e-3
    for a, b in zip(*answers, strict=True):
        assert (a - b).abs().max() < 1e-5 * scale


# ── the ratio before the first update ──


def trained_policy(kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Not fresh: a LoRA's B is not 0, as it is after a resume."""
    policy: FluxKontextPolicy = make_policy(dtype, **options)
    policy.add_lora(2, 4, "all") if kind == "lora" else policy.train_all()
    generator = torch.Generator().manual_seed(2)
    if kind == "lora":
        with torch.no_grad():
            for parameter in policy.trainable_parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


CFG = {"true_cfg_scale": 2.0}
CASES = [
    ("lora", {}),
    ("lora", CFG),
    ("lora", {**CFG, "batched_cfg": True}),
    ("lora", {"gradient_checkpointing": True}),
    ("full", {}),
    ("full", {**CFG, "gradient_checkpointing": True}),
]


@pytest.mark.parametrize("kind, options", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replay_gives_exactly_what_was_stored(
    kind: str, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    policy = trained_policy(kind, dtype, **options)
    how = replay(policy)
    for drawn in roll(policy, plan([0, 3]), group=2, micro=3):
        assert how.ratio_deviation(drawn) == 0.0
        sums = how.gradient([drawn], credits(4), 8)  # with gradient, too
        assert sums.most["ratio_deviation"] == 0.0
        assert sums.sums["ratio"] == sums.terms == 2 * len(drawn.indices)
        assert sums.sums["clip_fraction"] == sums.sums["silenced_fraction"] == 0
    assert any(one.abs().max() > 0 for one in gradients(policy))


@pytest.mark.parametrize("transition, settings", [way for way in WAYS if len(way[1]) != 1], ids=str)
def test_replay_is_exact_with_every_transition(transition: str, settings: dict[str, Any]) -> None:
    policy = trained_policy("lora")
    how = replay(policy, transition, **settings)
    (drawn,) = roll(policy, plan([0, 1, 2]), group=2, shared=True, means=True,
                    transition=transition)  # fmt: skip
    assert how.ratio_deviation(drawn) == 0.0
    assert how.gradient([drawn], credits(4), 12).most["ratio_deviation"] == 0.0


def test_randomness_in_the_model_is_detected() -> None:
    policy = trained_policy("lora")
    policy.denoiser.proj_out.register_forward_hook(
        lambda module, inputs, output: F.dropout(output, 0.1, training=True)
    )
    (drawn,) = roll(policy, plan([1]), group=2)
    deviation = replay(policy).ratio_deviation(drawn)
    assert deviation > 1e-4
    with pytest.raises(TrainingError, match="dropout"):
        check_ratio(deviation, 0.0)


@pytest.mark.parametrize("steps", [[0], [0, 1]])
def test_a_replay_that_is_no_number_is_no_perfect_replay(steps: list[int]) -> None:
    """Python's max() would pass over NaN."""
    policy = LinearPolicy()
    (drawn,) = roll(policy, plan(steps))
    with torch.no_grad():
        policy.weight[0, 0] = float("nan")
    with pytest.raises(TrainingError):
        check_ratio(replay(policy).ratio_deviation(drawn), 0.1)


def test_learning_moves_the_ratio() -> None:
    policy = trained_policy("lora")
    how = replay(policy)
    (drawn,) = roll(policy, plan([1, 2]), group=2)
    how.gradient([drawn], credits(4), 8)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign()
    assert how.ratio_deviation(drawn) > 1e-6


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_makes_what_got_credit_likelier(sign: float) -> None:
    policy = LinearPolicy(EXACT)
    (drawn,) = roll(policy, plan([1, 2]))
    A = torch.zeros(6, 4)
    A[4, 2] = sign
    replay(policy).gradient([drawn], A, 12)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter -= 1e-3 * parameter.grad / parameter.grad.norm()
    one = drawn.stored[1]
    with torch.no_grad():
        v = policy.velocity(one.x, sampler(policy).sigmas[2], drawn.condition)
    mean, std = sampler(policy).stochastic(one.x, v, 2)
    change = transitions.gaussian_log_prob(one.following, mean, std) - one.log_prob
    assert sign * float(change[4]) > 0


def test_credit_is_looked_up_by_sample_and_true_step() -> None:
    """Only the term whose credit is not 0 has a gradient, wherever it stands."""
    old, _ = moved()
    batches = roll(old, plan([1, 3]), micro=4)
    A = torch.zeros(6, 4)
    A[5, 3] = 1.0
    how = replay(old)
    how.gradient(batches[:1], A, 12)
    assert all(float(one.abs().max()) == 0 for one in gradients(old))
    how.gradient(batches[1:], A, 12)
    assert all(float(one.abs().max()) > 0 for one in gradients(old))
    A = torch.zeros(6, 4)
    A[:, [0, 2]] = 1.0  # steps that are not trained
    how.gradient(batches, A, 12)
    assert all(float(one.abs().max()) == 0 for one in gradients(old))


# ── KL and where gradients go ──


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_kl_is_zero_before_an_update_and_positive_after(kind: str) -> None:
    policy = make_policy()
    policy.add_lora(2, 4, "all") if kind == "lora" else policy.train_all()
    how = replay(policy, kl=0.5)
    (drawn,) = roll(policy, plan([1, 2]), group=2)
    assert how.gradient([drawn], credits(4), 8).sums["kl"] == 0.0
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad.sign()
    gradients(policy)
    sums = how.gradient([drawn], torch.zeros(4, 4), 8)
    assert sums.sums["kl"] > 1e-8 and sums.sums["loss"] == 0
    own = gradients(policy)
    assert any(one.abs().max() > 0 for one in own)  # KL alone pulls back
    no_kl = replay(policy).gradient([drawn], torch.zeros(4, 4), 8)
    assert no_kl.sums["kl"] == 0.0
    assert all(one.abs().max() == 0 for one in gradients(policy))


def test_only_the_adapter_gets_a_gradient() -> None:
    policy = trained_policy("lora")
    (drawn,) = roll(policy, plan([1]), group=2)
    replay(policy, kl=0.1).gradient([drawn], credits(4), 4)
    ours = {id(p) for p in policy.trainable_parameters()}
    for part in policy.pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            assert all(p.grad is None for p in part.parameters() if id(p) not in ours)
    have = [p.grad is not None for p in policy.trainable_parameters()]
    assert sum(have) > len(have) / 2


def test_sums_add_up() -> None:
    old, new = moved()
    drawn = roll(old, plan([1, 2]), micro=3)
    whole = replay(new).gradient(drawn, credits(), 12)
    parts = [replay(new).gradient([one], credits(), 12) for one in drawn]
    assert isinstance(whole, UpdateSums)
    assert whole.terms == sum(part.terms for part in parts)
    assert set(whole.sums) == {"loss", "kl", "ratio", "clip_fraction", "silenced_fraction"}
    for name, found in whole.sums.items():
        assert found == pytest.approx(sum(part.sums[name] for part in parts))
    assert whole.most["ratio_deviation"] == max(part.most["ratio_deviation"] for part in parts)
    gradients(new)
