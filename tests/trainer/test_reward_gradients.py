"""Gradients of single rewards: that they are, what is made of them, and that measuring is free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from rolling import LinearPolicy, plan, roll, sampler
from tiny import make_policy
from torch import Tensor

from likewise.api import train
from likewise.config.gradient_rules import GradientRule, MinNorm, PcGrad, Sum
from likewise.config.learning import Optimizer
from likewise.config.objectives import Awm, Crd, Grpo, Nft, OnPolicy
from likewise.config.recipe import Recipe
from likewise.rollout.trajectories import Trajectory
from likewise.trainer.learner import Learner
from likewise.trainer.old import OldWeights
from likewise.trainer.reward_gradients import (
    WHOLE,
    Combination,
    RewardGradients,
    is_measured,
)
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update

EXACT = torch.float64
STEPS = 4
SIDES = {"text": "prompt", "look": "identity", "shape": "identity"}
SECTIONS: dict[str, Any] = {
    "grpo": Grpo(clip_range=0.002),
    "grpo, guarded": Grpo(guard=True, inverse_dt=True),
    "nft": Nft(beta=0.7, max_advantage=9.0),
    "awm": Awm(level_power=1.0),
    "crd": Crd(beta=0.5, levels="uniform"),
}


def parts(seed: int = 7) -> Tensor:
    """Of three rewards, six samples and four steps."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 6, STEPS, generator=generator, dtype=EXACT)


def moved(policy: LinearPolicy, amount: float = 0.02) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator, dtype=EXACT)


def trained(section: Any) -> Trained:
    policy = LinearPolicy(EXACT)
    old = OldWeights(policy.trainable_parameters(), OnPolicy())
    return Trained(policy, sampler(policy, STEPS), section, old)  # type: ignore[arg-type]


def drawn(how: Trained, micro: int = 100) -> list[Trajectory]:
    stored = [] if how.settings.forward else [0, 2]
    return roll(how.policy, plan(stored), micro=micro, means=True, num_steps=STEPS)


def terms(how: Trained) -> int:
    return 6 * Update(how).terms_per_sample(2)


def gradient(how: Trained, batches: list[Trajectory], advantages: Tensor, **more: Any) -> Tensor:
    """[P], and the parameters' gradients are cleared."""
    Update(how).gradient(batches, advantages, terms(how), **more)
    found = [
        one.grad.flatten() for one in how.policy.trainable_parameters() if one.grad is not None
    ]
    for one in how.policy.trainable_parameters():
        one.grad = None
    return torch.cat(found)


def apart_of(how: Trained, by_step: bool = False, own: Tensor | None = None) -> RewardGradients:
    steps = range(STEPS) if by_step else None
    own = parts() if own is None else own
    return RewardGradients(how.policy.trainable_parameters(), SIDES, own, steps=steps)


# ── what they are ──


@pytest.mark.parametrize("name", SECTIONS)
def test_each_is_the_gradient_of_its_own_part(name: str) -> None:
    """At the old policy, where the loss is linear; so they add up to the whole."""
    how = trained(SECTIONS[name])
    batches, apart = drawn(how), apart_of(how)
    whole = gradient(how, batches, parts().sum(0), apart=apart)
    for found, own in zip(apart.whole, parts(), strict=True):
        torch.testing.assert_close(found, gradient(how, batches, own))
        assert found.norm() > 1e-3
    torch.testing.assert_close(apart.whole.sum(0), whole)


@pytest.mark.parametrize("name", ["nft", "crd"])
def test_a_pull_that_needs_no_credit_is_in_the_rest(name: str) -> None:
    """NFT and CRD are then linear but for a pull back to the old policy."""
    how = trained(SECTIONS[name])
    batches, apart = drawn(how), apart_of(how)
    moved(how.policy)  # type: ignore[arg-type]
    assert how.old is not None
    how.old.after_step()
    whole = gradient(how, batches, parts().sum(0), apart=apart)
    pull = gradient(how, batches, torch.zeros(6, STEPS, dtype=EXACT))
    assert pull.norm() > 1e-3
    torch.testing.assert_close(apart.whole.sum(0), whole - pull)


@pytest.mark.parametrize("name", SECTIONS)
def test_steps_are_told_apart(name: str) -> None:
    how = trained(SECTIONS[name])
    batches, apart = drawn(how), apart_of(how, by_step=True)
    gradient(how, batches, parts().sum(0), apart=apart)
    for step in range(STEPS):
        alone = torch.zeros(6, STEPS, dtype=EXACT)
        alone[:, step] = parts()[1, :, step]
        torch.testing.assert_close(apart.sums[step][1], gradient(how, batches, alone))
    coarse = apart_of(how)
    gradient(how, batches, parts().sum(0), apart=coarse)
    torch.testing.assert_close(apart.whole, coarse.sums[WHOLE])


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_learned_is_the_same_in_every_bit(name: str, by_step: bool) -> None:
    how = trained(SECTIONS[name])
    batches, A = drawn(how, micro=4), parts().sum(0)
    plain = gradient(how, batches, A)
    assert torch.equal(gradient(how, batches, A, apart=apart_of(how, by_step)), plain)


@pytest.mark.parametrize("name", SECTIONS)
def test_micro_batches_change_nothing(name: str) -> None:
    how, found = trained(SECTIONS[name]), []
    for micro in (6, 4, 1):
        apart = apart_of(how, by_step=True)
        gradient(how, drawn(how, micro), parts().sum(0), apart=apart)
        found.append(apart)
    for one in found[1:]:
        for step in range(STEPS):
            torch.testing.assert_close(one.sums[step], found[0].sums[step])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_a_transformer(checkpointing: bool) -> None:
    """Some of its parameters may have none, and graphs are gone through several times."""
    policy = make_policy(gradient_checkpointing=checkpointing)
    policy.add_lora(2, 4, "all")
    (batch,) = roll(policy, plan([1, 2]), group=2)
    how = Trained(policy, sampler(policy), Grpo())
    own = parts()[:2, :4].float()
    apart = RewardGradients(policy.trainable_parameters(), {"a": "prompt", "b": "identity"}, own)
    Update(how).gradient([batch], own.sum(0), 8, apart=apart)
    whole = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
         for p in policy.trainable_parameters()]
    )  # fmt: skip
    assert whole.norm() > 1e-3
    torch.testing.assert_close(apart.whole.sum(0), whole, rtol=1e-4, atol=1e-6)


# ── what is made of them ──


def given(*rows: list[float], rest: float = 0.0) -> RewardGradients:
    """Gradients by hand, of two parameters with two numbers and one."""
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=EXACT)) for size in (2, 1)]
    sides = dict(list(SIDES.items())[: len(rows)])
    apart = RewardGradients(parameters, sides, torch.zeros(len(rows), 1, 1))
    apart.sums[WHOLE] = torch.tensor(rows, dtype=EXACT)
    whole = apart.whole.sum(0) + rest
    parameters[0].grad, parameters[1].grad = whole[:2].clone(), whole[2:].clone()
    return apart


def combined(settings: GradientRule, apart: RewardGradients) -> list[float]:
    Combination(settings).apply(apart, 1.0)
    return torch.cat([one.grad for one in apart.parameters if one.grad is not None]).tolist()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (Sum(), [3, 0, 4]),
        (PcGrad(normalise=False), [3, 0, 4]),
        (MinNorm(normalise=False), [2 * 0.64 * 3, 0, 2 * 0.36 * 4]),
        (MinNorm(), [3.5, 0, 3.5]),  # 2·½·(3.5/3)·3 and 2·½·(3.5/4)·4
        (PcGrad(), [3.5, 0, 3.5]),
    ],
)
def test_orthogonal_gradients_by_hand(settings: GradientRule, wanted: list[float]) -> None:
    """(3, 0, 0) and (0, 0, 4), with a rest of −1 everywhere that stays."""
    found = combined(settings, given([3, 0, 0], [0, 0, 4], rest=-1))
    assert found == pytest.approx([one - 1 for one in wanted])


@pytest.mark.parametrize("settings", [MinNorm(), PcGrad()])
def test_equal_gradients_stay_as_they_are(settings: GradientRule) -> None:
    assert combined(settings, given([1, 2, 3], [1, 2, 3])) == pytest.approx([2, 4, 6])


def test_opposed_gradients_by_hand() -> None:
    """(2, 0, 0) and (−1, 1, 0): at 135°, ‖g_2‖ = √2."""
    pair = [2.0, 0.0, 0.0], [-1.0, 1.0, 0.0]
    assert combined(PcGrad(normalise=False), given(*pair)) == pytest.approx([1, 2, 0])
    # α = 0.4: 2·(0.4·g_1 + 0.6·g_2)
    assert combined(MinNorm(normalise=False), given(*pair)) == pytest.approx([0.4, 1.2, 0])
    size = (2 + 2**0.5) / 2  # mean norm, which both unit vectors get
    bisector = [size * (1 - 0.5**0.5), size * 0.5**0.5, 0]
    assert combined(MinNorm(), given(*pair)) == pytest.approx(bisector)
    longer = [(1 + 0.5**0.5) * one for one in bisector]  # PCGrad: 1 − cos of it
    assert combined(PcGrad(), given(*pair)) == pytest.approx(longer)


def test_what_is_logged_by_hand() -> None:
    apart = given([3, 0, 0], [0, 4, 0], [3, 0, 0], rest=2)
    numbers = Combination(Sum()).apply(apart, scale=2.0)
    assert numbers == pytest.approx({
        "gradient/cosine": 9 / (3 * 5),  # (3, 0, 0) of text; (3, 4, 0) of look and shape
        "gradient/norm/text": 1.5, "gradient/norm/look": 2.0, "gradient/norm/shape": 1.5,
        "gradient/rest_norm": 3**0.5,
    })  # fmt: skip


def test_weights_are_smoothed_over_steps_that_are_taken() -> None:
    combination = Combination(MinNorm(normalise=False, smoothing=0.75))
    first = combination.apply(given([3, 0, 0], [0, 4, 0]), 1.0)
    assert first["gradient/weight/text"] == pytest.approx(0.64)
    combination.apply(given([1, 0, 0], [0, 9, 0]), 1.0)
    combination.keep()
    skipped = combination.apply(given([3, 0, 0], [0, 4, 0]), 1.0)
    once = 81 / 82
    assert skipped["gradient/weight/text"] == pytest.approx(0.75 * once + 0.25 * 0.64)
    taken = combination.apply(given([1, 0, 0], [0, 1, 0]), 1.0)
    assert taken["gradient/weight/text"] == pytest.approx(0.75 * once + 0.25 * 0.5)


@pytest.mark.parametrize("settings", [MinNorm(), MinNorm(normalise=False), PcGrad()])
def test_a_reward_without_gradient_has_no_part(settings: GradientRule) -> None:
    """Groups may be flat. The shortest combination with 0 would be 0."""
    combination = Combination(settings)
    combination.average = [0.1, 0.9]
    apart = given([0, 0, 0], [1, 2, 0], rest=1)
    numbers = combination.apply(apart, 1.0)
    combination.keep()
    assert combination.average == [0.1, 0.9]  # which it says nothing about
    found = torch.cat([one.grad for one in apart.parameters if one.grad is not None])
    assert found.tolist() == pytest.approx([2, 3, 1])
    assert numbers["gradient/cosine"] is None
    assert (numbers["gradient/weight/text"], numbers["gradient/weight/look"]) == (0, 1)


@pytest.mark.parametrize("settings", [MinNorm(), PcGrad()])
def test_nothing_at_all_is_nothing(settings: GradientRule) -> None:
    assert combined(settings, given([0, 0, 0], [0, 0, 0])) == [0, 0, 0]


@pytest.mark.parametrize("settings", [MinNorm(), PcGrad()])
def test_a_gradient_that_is_not_finite_reaches_no_weights(settings: GradientRule) -> None:
    apart = given([float("inf"), 0, 0], [1, 2, 0])
    for parameter in apart.parameters:
        parameter.grad = torch.ones_like(parameter)  # the sum has not overflowed
    learner = Learner(list(apart.parameters), Optimizer(gradients=settings), 10)
    assert learner.combine(apart)["gradient/norm/text"] is None
    assert not 0 < learner.step() < float("inf")
    assert all(not one.any() for one in apart.parameters)
    assert learner.combination.average is None


def test_another_rule_s_average_says_nothing() -> None:
    one, same, other = (Combination(how) for how in (MinNorm(), MinNorm(smoothing=0.5), PcGrad()))
    one.average = [0.25, 0.75]
    for combination in (same, other):
        combination.load_state(json.loads(json.dumps(one.state())))
    assert (same.average, other.average) == ([0.25, 0.75], None)


# ── whole runs ──


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["grpo", "nft"])
def test_measuring_a_run_changes_nothing_else(
    tiny_model: Path, tmp_path: Path, objective: str
) -> None:
    """Iterations 1 and 3 of three are measured, at every trained step."""
    changes: dict[str, Any] = {"objective": runs.OBJECTIVES[objective]}
    measured = {"learning_rate": 3e-3, "gradients": {"measure_every": 2}}
    plain = train(runs.tiny_recipe(tiny_model, **changes), tmp_path / "plain", quiet=True).run.path
    recipe = runs.tiny_recipe(tiny_model, **changes, optimizer=measured)
    found = train(recipe, tmp_path / "measured", quiet=True).run.path
    tensors, others = runs.newest_tensors(plain), runs.newest_tensors(found)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(one, others[name]) for name, one in tensors.items())
    rows = metrics(found)
    extra = [{key for key in row if key.startswith("gradient/")} for row in rows]
    assert extra[1] == set()
    overall = {"gradient/cosine", "gradient/rest_norm", "gradient/norm/red", "gradient/norm/detail"}
    for row, keys in ((rows[0], extra[0]), (rows[2], extra[2])):
        weights = [key for key in row if key.startswith("weight/red/")]  # of each trained step
        steps = {key.replace("weight/red", "gradient/cosine") for key in weights}
        assert keys == overall | steps
        assert all(-1 <= (row[key] or 0) <= 1 for key in steps)
        assert abs(row["gradient/cosine"]) < 1
    assert [
        {key: value for key, value in row.items() if not key.startswith("gradient/")}
        for row in rows
    ] == metrics(plain)


@pytest.mark.parametrize("shaping", [{"kind": "none"}, {"kind": "sars"}])
def test_the_rest_is_what_belongs_to_no_reward(
    tiny_model: Path, tmp_path: Path, shaping: dict[str, str]
) -> None:
    gradients = {"learning_rate": 3e-3, "gradients": {"measure_every": 1}}
    recipe = runs.tiny_recipe(tiny_model, optimizer=gradients, credit={"shaping": shaping})
    row = metrics(train(recipe, tmp_path / "run", quiet=True).run.path)[0]
    share = row["gradient/rest_norm"] / row["gradient/norm/red"]
    assert share > 0.05 if shaping["kind"] == "sars" else share < 1e-5


# ── recipes ──


def written(**changes: Any) -> dict[str, Any]:
    rewards = {
        "text": {"kind": "clip", "side": "prompt"},
        "look": {"kind": "dino", "side": "identity"},
    }
    return {"name": "test", "rewards": rewards, **changes}


CONSTANT = {"kind": "constant"}


@pytest.mark.parametrize("gradients", [{"measure_every": 5}, {"kind": "min-norm"}])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"credit": {"shaping": {"kind": "gdpo"}, "time_weights": CONSTANT}},
            "combines all",
        ),
        ({"credit": {"shaping": {"kind": "gains"}}}, "a z of its own at each step"),
        ({"objective": {"kind": "dgpo"}}, "one preference of a whole group"),
        (
            {"credit": {"shaping": {"kind": "none"}, "time_weights": {**CONSTANT, "prompt": 1}}},
            "leaves one of them none",
        ),
        (
            {
                "rewards": {"text": {"kind": "clip", "side": "prompt"}},
                "credit": {"shaping": {"kind": "none"}, "time_weights": CONSTANT},
            },
            "leave it out",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    gradients: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    Recipe.model_validate(written(**changes))
    with pytest.raises(ValueError, match=said) as caught:
        Recipe.model_validate(written(**changes, optimizer={"gradients": gradients}))
    assert "optimizer.gradients" in str(caught.value)


def test_iterations_that_are_measured() -> None:
    assert [n for n in range(1, 12) if is_measured(5, n)] == [1, 6, 11]
    assert not any(is_measured(0, n) for n in range(1, 12))
