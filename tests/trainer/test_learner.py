"""AdamW, schedule and moving average: by hand, and restored in every bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rolling import LinearPolicy, plan, roll, sampler
from tiny import make_policy
from torch import Tensor, nn

from likewise.config.learning import Optimizer
from likewise.config.objectives import Grpo
from likewise.trainer.learner import Learner, rate_after
from likewise.trainer.state import adapter_folder, read_state, seed_everything, write_state
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update

FULL = {"schedule": "cosine", "warmup_steps": 2, "ema_decay": 0.8, "learning_rate": 0.01}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(3, 2), (4,)]]


def learner(own: Sequence[nn.Parameter] | None = None, total: int = 20, **settings: Any) -> Learner:
    return Learner(list(own or parameters()), Optimizer(**settings), total)


def set_gradients(one: Learner, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in one.parameters:
        p.grad = scale * torch.randn(p.shape, generator=generator)


def values(one: Learner) -> list[Tensor]:
    return [p.detach().clone() for p in one.parameters]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        Learner([], Optimizer(), 1)
    with pytest.raises(ValueError, match="nothing to train"):
        Learner(make_policy().trainable_parameters(), Optimizer(), 1)


# ── a step ──


@pytest.mark.parametrize("eps", [1e-8, 0.3, 1e-15])
def test_the_first_step_of_adamw_by_hand(eps: float) -> None:
    one = learner(learning_rate=0.1, weight_decay=0.2, max_grad_norm=1e9, eps=eps)
    before = values(one)
    set_gradients(one, 1)
    slopes = [p.grad.clone() for p in one.parameters if p.grad is not None]
    norm = one.step()
    assert norm == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in slopes)))
    for start, slope, now in zip(before, slopes, values(one), strict=True):
        expected = start * (1 - 0.1 * 0.2) - 0.1 * slope / (slope.abs() + eps)
        torch.testing.assert_close(now, expected, rtol=1e-5, atol=1e-6)
    assert all(p.grad is None for p in one.parameters)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8), (0.0, 0.95), (0.95, 0.0)], ids=str)
def test_three_steps_by_hand_with_other_betas(betas: tuple[float, float]) -> None:
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²; both over 1 − βⁿ (1412.6980)."""
    one = learner(learning_rate=0.1, weight_decay=0.0, max_grad_norm=1e9, betas=betas)
    wanted = values(one)
    m, v = ([torch.zeros_like(p) for p in wanted] for _ in range(2))
    for n in (1, 2, 3):
        set_gradients(one, n)
        for i, p in enumerate(one.parameters):
            assert p.grad is not None
            m[i] = betas[0] * m[i] + (1 - betas[0]) * p.grad
            v[i] = betas[1] * v[i] + (1 - betas[1]) * p.grad**2
            first, second = m[i] / (1 - betas[0] ** n), v[i] / (1 - betas[1] ** n)
            wanted[i] = wanted[i] - 0.1 * first / (second.sqrt() + 1e-8)
        one.step()
    for now, want in zip(values(one), wanted, strict=True):
        torch.testing.assert_close(now, want, rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped_to_the_norm() -> None:
    """Adam hides the size of the first gradient, so the second moments are looked at."""
    one = learner(max_grad_norm=0.5, betas=(0.9, 0.999))
    set_gradients(one, 1, scale=100)
    norm = one.step()
    assert norm > 50  # the one before clipping is reported
    moments = one.state()[0]
    squares = sum(float(moments[f"optimizer.{i}.exp_avg_sq"].sum()) for i in range(2)) / 0.001
    assert squares == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_norm_that_is_not_finite_leaves_everything_as_it_was(bad: float, fresh: bool) -> None:
    one = learner(ema_decay=0.9)
    if not fresh:
        set_gradients(one, 1)
        one.step()
    before, state = values(one), {key: value.clone() for key, value in one.state()[0].items()}
    set_gradients(one, 2)
    one.parameters[1].grad[2] = bad  # type: ignore[index]
    assert not math.isfinite(one.step())
    assert same(values(one), before)
    after = one.state()[0]
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert all(p.grad is None for p in one.parameters)
    set_gradients(one, 3)
    assert math.isfinite(one.step()) and not same(values(one), before)  # and it goes on


# ── schedule ──


def rates(**settings: Any) -> list[float]:
    one = learner(total=8, learning_rate=0.5, **settings)
    seen = []
    for seed in range(8):
        seen.append(one.learning_rate)
        set_gradients(one, seed)
        one.step()
    return seen


def test_schedules_by_hand() -> None:
    assert rates() == [0.5] * 8
    warm = {"warmup_steps": 4}
    assert rates(schedule="constant_with_warmup", **warm) == pytest.approx(
        [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5]
    )
    assert rates(schedule="linear", **warm) == pytest.approx(
        [0, 0.125, 0.25, 0.375, 0.5, 0.375, 0.25, 0.125]
    )
    cosine = [0.25 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates(schedule="cosine") == pytest.approx(cosine)


def test_a_longer_schedule_takes_over_where_a_run_is_extended() -> None:
    first = learner(total=8, learning_rate=0.5, schedule="cosine")
    for seed in range(8):
        set_gradients(first, seed)
        first.step()
    assert first.learning_rate == pytest.approx(0, abs=1e-9)
    tensors, rest = first.state()
    longer = learner(total=16, learning_rate=0.5, schedule="cosine")
    longer.load_state(tensors, rest)
    assert longer.learning_rate == pytest.approx(0.25)
    assert longer.learning_rate == rate_after(longer.settings, 16, 8)
    assert rate_after(first.settings, 8, 8) == pytest.approx(0, abs=1e-9)
    set_gradients(longer, 1)
    longer.step()
    assert longer.learning_rate == pytest.approx(0.25 * (1 + math.cos(math.pi * 9 / 16)))
    other = learner(total=16, learning_rate=0.1)
    other.load_state(tensors, rest)
    assert other.learning_rate == pytest.approx(0.1)


# ── moving average ──


def test_the_moving_average_by_hand() -> None:
    """diffusers' EMA warms up: decay 0 at the first step, then min(decay, (1 + n)/(10 + n))."""
    one = learner(ema_decay=0.25)
    shadow = values(one)
    for n in range(6):
        set_gradients(one, n)
        one.step()
        decay = 0.0 if n == 0 else min(0.25, (1 + n) / (10 + n))
        shadow = [decay * s + (1 - decay) * p for s, p in zip(shadow, values(one), strict=True)]
    own = values(one)
    with one.averaged():
        inside = values(one)
    assert same(values(one), own) and not same(inside, own)
    for a, b in zip(inside, shadow, strict=True):
        torch.testing.assert_close(a, b)


def test_the_average_gives_way_even_to_an_error() -> None:
    one = learner(ema_decay=0.9)
    for n in range(3):
        set_gradients(one, n)
        one.step()
    own = values(one)
    with pytest.raises(RuntimeError, match="stop"), one.averaged():
        assert not same(values(one), own)
        raise RuntimeError("stop")
    assert same(values(one), own)


def test_without_an_average_the_parameters_are_themselves() -> None:
    one = learner()
    set_gradients(one, 1)
    one.step()
    own = values(one)
    with one.averaged():
        assert same(values(one), own)
    assert one.ema is None


# ── state ──


@pytest.mark.parametrize("settings", [{}, FULL, {"schedule": "linear"}], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_state_restores_every_bit(settings: dict[str, Any], steps: int) -> None:
    first = learner(**settings)
    for n in range(steps):
        set_gradients(first, n)
        first.step()
    tensors, rest = first.state()
    tensors = {key: value.clone() for key, value in tensors.items()}
    second = learner([nn.Parameter(value) for value in values(first)], **settings)
    second.load_state(tensors, rest)
    for n in range(5, 9):
        assert first.learning_rate == second.learning_rate
        for one in (first, second):
            set_gradients(one, n)
        assert first.step() == second.step()
        assert same(values(first), values(second))
        with first.averaged(), second.averaged():
            assert same(values(first), values(second))
    assert first.state()[1] == second.state()[1]


def policy_of(kind: str) -> Any:
    if kind == "linear":
        return LinearPolicy()
    policy = make_policy()
    policy.add_lora(2, 4) if kind == "lora" else policy.train_all(keep_reference=False)
    return policy


def learn(policy: Any, one: Learner, seeds: range) -> None:
    """Steps with gradients of the objective itself."""
    A = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    how = Update(Trained(policy, sampler(policy, 3), Grpo(clip_range=0.2)))
    for seed in seeds:
        drawn = roll(policy, plan([1]), group=2, num_steps=3, seed=seed)
        how.gradient(drawn, A, 4)
        one.step()


@pytest.mark.parametrize("kind", ["linear", "lora", "full"])
@pytest.mark.parametrize("settings", [{"learning_rate": 0.01}, FULL], ids=["plain", "everything"])
def test_a_run_goes_on_from_disk_as_if_it_never_stopped(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    first = policy_of(kind)
    one = learner(first.trainable_parameters(), **settings)
    start = values(one)
    learn(first, one, range(3))
    write_state(tmp_path, first, one)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {
        "", ".json", ".safetensors"
    }  # fmt: skip
    second = policy_of(kind)
    other = learner(second.trainable_parameters(), **settings)
    read_state(tmp_path, second, other)
    assert same(values(one), values(other)) and not same(values(one), start)
    for policy, its in ((first, one), (second, other)):
        learn(policy, its, range(3, 5))
    assert same(values(one), values(other))
    assert one.learning_rate == other.learning_rate
    with one.averaged(), other.averaged():
        assert same(values(one), values(other))


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_adapter_to_generate_with_is_the_average(ema: float | None, tmp_path: Path) -> None:
    policy = policy_of("lora")
    one = learner(policy.trainable_parameters(), learning_rate=0.01, ema_decay=ema)
    learn(policy, one, range(3))
    write_state(tmp_path, policy, one)
    assert (tmp_path / "average").is_dir() == (ema is not None)
    newcomer = make_policy()
    newcomer.load_adapter(adapter_folder(tmp_path))
    own = values(one)
    with one.averaged():
        assert same(values(one), [p.detach() for p in newcomer.trainable_parameters()])
        assert same(values(one), own) == (ema is None)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    policy = policy_of("lora")
    write_state(tmp_path, policy, learner(policy.trainable_parameters()))
    other = make_policy()
    other.add_lora(3, 4)
    with pytest.raises(ValueError, match="another adapter"):
        read_state(tmp_path, other, learner(other.trainable_parameters()))


def test_iterations_seed_the_global_generators() -> None:
    import random

    import numpy as np

    def numbers(*where: int) -> tuple[float, float, float]:
        seed_everything(*where)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert numbers(0, 1, 0) == numbers(0, 1, 0)
    others = [numbers(0, 1, 0), numbers(1, 1, 0), numbers(0, 2, 0), numbers(0, 1, 1)]
    for column in zip(*others, strict=True):
        assert len(set(column)) == 4


# ── float16 ──


def descend(one: Learner, factor: float) -> float:
    """A step down the loss factor · Σ p², by its gradient."""
    loss = sum((p**2).sum() for p in one.parameters)
    one.scaled(factor * torch.as_tensor(loss)).backward()
    return one.step()


def test_a_scaled_loss_teaches_the_same() -> None:
    plain, half = learner(learning_rate=0.1), Learner(parameters(), Optimizer(), 20, half=True)
    assert half.scaled(torch.tensor(1.0)) > 1e4
    assert descend(half, 1.0) == pytest.approx(descend(plain, 1.0), rel=1e-6)
    half = Learner(parameters(), Optimizer(learning_rate=0.1), 20, half=True)
    descend(half, 1.0)
    pairs = zip(values(plain), values(half), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_an_overflow_lowers_the_scale_and_changes_nothing_else() -> None:
    one = Learner(parameters(), Optimizer(learning_rate=0.1), 20, half=True)
    before, scale = values(one), float(one.scaled(torch.tensor(1.0)))
    assert math.isinf(descend(one, 1e38)) or math.isnan(descend(one, 1e38))
    assert same(before, values(one))
    assert float(one.scaled(torch.tensor(1.0))) < scale
    again = Learner(parameters(), Optimizer(learning_rate=0.1), 20, half=True)
    again.load_state(*one.state())
    assert again.scaled(torch.tensor(1.0)) == one.scaled(torch.tensor(1.0))
