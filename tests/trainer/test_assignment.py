"""The recipe's credit rule reaches the right functions with the right numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from likewise.algorithm import shaping, timeweights
from likewise.algorithm.credit import advantages, group_zscore
from likewise.algorithm.gains import gain_zscore, with_turning_points
from likewise.config.credit_rules import READ_WEIGHTS
from likewise.config.recipe import Recipe
from likewise.rollout.steps import StepPlan, loop_orders
from likewise.trainer import assignment
from likewise.trainer.assignment import Assignment, assign_credit

GROUP, STEPS = 4, 6
# Two groups of 4; prompt and identity disagree in part.
VALUES = torch.tensor([[1.0, 2, 3, 4, 8, 8, 5, 1], [0.3, 0.1, 0.4, 0.2, 0.6, 0.5, 0.9, 0.1]])
VALID = torch.ones(2, 8, dtype=torch.bool)
PLAN = StepPlan((1, 3, 4), (1, 3, 4))
TDW_KINDS = ["tdw", "reversed-tdw", "tdw-as-released"]
MEASURED = {"prompt": [1.0, 0.5, 0.5, 0, 0, 0], "identity": [0, 2.0, 6, 0, 8, 0]}
STAND_ALONE = [
    *("minimum", "maximum", "product"),
    *("weighted-sum", "gdpo", "raw-sum", "gd2po", "hinge-gate"),
]
FLOORS = torch.tensor([0.5] * GROUP + [1.2] * GROUP)  # of two kinds of task; rewards weigh 0.5


def recipe(shaping: dict[str, Any], weights: dict[str, Any], **credit: Any) -> Recipe:
    own = (2.0, 0.5) if shaping["kind"] in READ_WEIGHTS else (1.0, 1.0)
    return Recipe.model_validate(
        {
            "name": "test",
            "rewards": {
                "text": {"kind": "clip", "weight": own[0]},
                "look": {"kind": "dino", "weight": own[1]},
            },
            "rollout": {"group_size": GROUP, "num_steps": STEPS},
            "credit": {"shaping": shaping, "time_weights": weights, **credit},
        }
    )


def finished_of(values: Tensor) -> Tensor:
    """Rewards before each step that grow evenly to those of the samples, [K, B, T+1]."""
    return values[..., None] * torch.arange(STEPS + 1) / STEPS


def assign(rule: Recipe, values: Tensor = VALUES, valid: Tensor = VALID) -> Assignment:
    finished = finished_of(values) if rule.credit.shaping.needs_gains else None
    return assign_credit(values, valid, rule, PLAN, 1, FLOORS, finished)


def z_of(values: Tensor = VALUES, valid: Tensor = VALID) -> Tensor:
    whole = valid.all(0)
    return torch.stack([group_zscore(reward, whole, GROUP) for reward in values])


def term_of(kind: str, z: Tensor) -> Tensor:
    if kind == "none":
        return torch.zeros(8)
    return {"sars": shaping.sars, "harmonic": shaping.harmonic}[kind](z, 0.4)


def weights_of(kind: str, high: float, low: float, final: float) -> Tensor:
    if kind == "constant":
        prompt = timeweights.constant(STEPS, 0.8)
    elif kind == "tdw-as-released":
        rule = recipe({"kind": "none"}, {"kind": kind})
        orders = loop_orders(rule.rollout, PLAN, 8, rule.seed, 1)
        prompt = timeweights.tdw_as_released(STEPS, orders, high, low, final)
    else:
        function = {"tdw": timeweights.tdw, "reversed-tdw": timeweights.reversed_tdw}[kind]
        prompt = function(STEPS, high, low, final)
    return torch.stack([prompt, 1 - prompt])


def test_measured_weights() -> None:
    got = assign(recipe({"kind": "none"}, {"kind": "measured", **MEASURED}))
    prompt = torch.tensor([1, 2 / 3, 0.4, 0.5, 0, 0.5])
    torch.testing.assert_close(got.weights, torch.stack([prompt, 1 - prompt]))


@pytest.mark.parametrize("time", ["constant", *TDW_KINDS])
@pytest.mark.parametrize("kind", ["none", "sars", "harmonic"])
def test_shaping_terms_with_every_time_weight(kind: str, time: str) -> None:
    levels = {"high": 0.9, "low": 0.2, "final": 0.5}
    weights = {"prompt": 0.8} if time == "constant" else levels
    got = assign(recipe({"kind": kind}, {"kind": time, **weights}))
    z = z_of()
    torch.testing.assert_close(got.z, z)
    torch.testing.assert_close(got.shaped, term_of(kind, z))
    torch.testing.assert_close(got.weights, weights_of(time, **levels))
    per_image = got.weights if got.weights.ndim == 3 else got.weights[:, None]
    by_hand = (per_image * z[..., None]).sum(0) + term_of(kind, z)[:, None]
    torch.testing.assert_close(got.advantages, by_hand.clamp(-5, 5))
    torch.testing.assert_close(got.parts, per_image * z[..., None])
    torch.testing.assert_close(got.parts.sum(0) + got.shaped[:, None], by_hand)
    assert got.advantages.shape == (8, STEPS)
    assert got.complete.all()


@pytest.mark.parametrize("kind", TDW_KINDS)
def test_only_the_ablation_shuffles_steps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    shuffle = loop_orders
    monkeypatch.setattr(assignment, "loop_orders", lambda *of: asked.append(of) or shuffle(*of))
    assign(recipe({"kind": "sars"}, {"kind": kind}))
    assert len(asked) == (kind == "tdw-as-released")


def combined_of(kind: str, z: Tensor) -> Tensor:
    if kind == "minimum":
        return z.min(0).values
    if kind == "maximum":
        return z.max(0).values
    if kind == "product":
        return (1 + z.exp()).log().prod(0) - math.log(2) ** 2
    if kind == "hinge-gate":
        raw = 2.0 * VALUES[0] - 5.0 * (FLOORS - 0.5 * VALUES[1]).clamp(min=0) ** 2
        return group_zscore(raw, VALID[0], GROUP)
    both = 2.0 * z[0] + 0.5 * z[1]
    if kind == "gd2po":
        kept = z[0] * z[1] > 0
        shared = both * kept.float().reshape(2, GROUP).mean(1).repeat_interleave(GROUP)
        return (shared - shared[kept].mean()) / shared[kept].std() * kept
    if kind == "weighted-sum":
        return both
    if kind == "gdpo":
        return (both - both.mean()) / both.std()
    raw = (2.0 * VALUES[0] + 0.5 * VALUES[1]).reshape(2, GROUP)
    return ((raw - raw.mean(1, True)) / raw.std(1, keepdim=True)).flatten()


@pytest.mark.parametrize("kind", STAND_ALONE)
def test_combined_rewards_are_the_same_at_every_step(kind: str) -> None:
    got = assign(recipe({"kind": kind}, {"kind": "constant"}))
    assert torch.equal(got.weights, torch.zeros(2, STEPS))
    assert torch.equal(got.parts, torch.zeros(2, 8, STEPS))
    torch.testing.assert_close(got.advantages, combined_of(kind, z_of())[:, None].expand(8, STEPS))


@pytest.mark.parametrize("name, k", [("text", 0), ("look", 1)])
def test_a_single_reward(name: str, k: int) -> None:
    got = assign(recipe({"kind": "single", "reward": name}, {"kind": "constant"}))
    torch.testing.assert_close(got.advantages, z_of()[k][:, None].expand(8, STEPS))


def test_two_groups_of_four_by_hand() -> None:
    """Group 1: r_p = 1 2 3 4, r_i = .3 .1 .4 .2; both have mean-free parts /std of ±1.16, ±.39."""
    got = assign(recipe({"kind": "sars"}, {"kind": "tdw"}))
    a, b = 1.5 / math.sqrt(5 / 3), 0.5 / math.sqrt(5 / 3)
    torch.testing.assert_close(got.z[0, :4], torch.tensor([-a, -b, b, a]))
    torch.testing.assert_close(got.z[1, :4], torch.tensor([b, -a, a, -b]), rtol=1e-4, atol=1e-4)
    synergy = 0.4 * math.tanh(a * b)
    expected = torch.tensor([-synergy, -synergy, synergy, -synergy])
    torch.testing.assert_close(got.shaped[:4], expected, rtol=1e-4, atol=1e-4)
    # TDW at T = 6: u = 25t/6, so that steps 0 and 1 are prompt first.
    first = 0.7 * a + 0.3 * -b - synergy
    torch.testing.assert_close(float(got.advantages[3, 0]), first, rtol=1e-4, atol=1e-4)
    middle = 0.3 + 0.4 * (1 - 1 / (1 + math.exp(-0.8 * (50 / 6 - 10))))
    expected_middle = middle * a + (1 - middle) * -b - synergy
    torch.testing.assert_close(float(got.advantages[3, 2]), expected_middle, rtol=1e-4, atol=1e-4)


ALL_RULES = [
    *(({"kind": kind}, {"kind": time}) for kind in ("none", "sars", "harmonic", "gains")
      for time in ("constant", *TDW_KINDS)),
    ({"kind": "sars"}, {"kind": "measured", **MEASURED}),
    *(({"kind": kind}, {"kind": "constant"}) for kind in STAND_ALONE),
    ({"kind": "single", "reward": "look"}, {"kind": "constant"}),
]  # fmt: skip


TRAINED_ON_ALL = [rule for rule in ALL_RULES if rule[0]["kind"] != "single"]


@pytest.mark.parametrize("shape, weights", TRAINED_ON_ALL)
def test_a_sample_without_a_reward_gets_and_moves_nothing(
    shape: dict[str, Any], weights: dict[str, Any]
) -> None:
    rule = recipe(shape, weights)
    valid = VALID.clone()
    valid[0, 2] = valid[1, 5] = False
    answers = []
    for junk in (0.0, 1e6, float("nan")):
        values = VALUES.masked_fill(~valid, junk)
        answers.append(assign(rule, values, valid))
    for got in answers:
        assert got.complete.tolist() == [True, True, False, True, True, False, True, True]
        assert (got.advantages[~got.complete] == 0).all()
        assert (got.z[:, ~got.complete] == 0).all()
        assert got.advantages.isfinite().all()
        assert (got.advantages[got.complete] != 0).any()
        torch.testing.assert_close(got.advantages, answers[0].advantages)
    torch.testing.assert_close(answers[0].z, z_of(VALUES, valid))


@pytest.mark.parametrize("shape, weights", ALL_RULES)
def test_a_group_of_equal_rewards_gets_no_credit(
    shape: dict[str, Any], weights: dict[str, Any]
) -> None:
    values = VALUES.clone()
    values[:, :GROUP] = torch.tensor([[0.7], [0.2]])
    got = assign(recipe(shape, weights), values)
    assert got.complete.all()
    assert got.advantages[:GROUP].abs().max() < 1e-6
    assert got.advantages[GROUP:].abs().max() > 0.1


@pytest.mark.parametrize("gate, main", [("identity", 0), ("prompt", 1)])
def test_a_hinge_gate_has_a_floor_and_two_sides(gate: str, main: int) -> None:
    rule = {"kind": "hinge-gate", "gate": gate, "penalty": 3.0, "floor": 0.4}
    got = assign(recipe(rule, {"kind": "constant"}))
    weighed = VALUES * torch.tensor([[2.0], [0.5]])
    raw = weighed[main] - 3.0 * (0.4 - weighed[1 - main]).clamp(min=0) ** 2
    torch.testing.assert_close(got.shaped, group_zscore(raw, VALID[0], GROUP))


def test_a_floor_that_was_not_measured_is_an_error() -> None:
    rule = recipe({"kind": "hinge-gate"}, {"kind": "constant"})
    with pytest.raises(ValueError, match=r"credit.shaping.floor is measured.*give a number"):
        assign_credit(VALUES, VALID, rule, PLAN, 1)


@pytest.mark.parametrize("whiten", ["batch", "group"])
def test_conflict_settings_come_from_the_recipe(whiten: str) -> None:
    rule = {"kind": "gd2po", "threshold": 0.3, "whiten": whiten}
    got = assign(recipe(rule, {"kind": "constant"}))
    want = shaping.gd2po(z_of(), [2.0, 0.5], VALID[0], GROUP, 0.3, whiten)  # type: ignore[arg-type]
    assert torch.equal(got.shaped, want)


def weightless(kind: str) -> Recipe:
    """Like a recipe of `kind`, `text` having weight 0."""
    content = recipe({"kind": kind}, {"kind": "constant"}).model_dump()
    content["rewards"]["text"]["weight"] = 0
    return Recipe.model_validate(content)


UNTRAINED = {  # rules whose credit does not depend on `text`
    "single": recipe({"kind": "single", "reward": "look"}, {"kind": "constant"}),
    "share": recipe({"kind": "none"}, {"kind": "constant", "prompt": 0.0}),
    "gamma": recipe({"kind": "sars", "gamma": 0}, {"kind": "constant", "prompt": 0.0}),
    **{kind: weightless(kind) for kind in ("weighted-sum", "gdpo", "raw-sum")},
}


@pytest.mark.parametrize("rule", UNTRAINED.values(), ids=UNTRAINED)
def test_a_reward_that_is_not_trained_may_be_missing(rule: Recipe) -> None:
    valid = VALID.clone()
    valid[0, 2] = valid[0, 5] = valid[1, 6] = False
    got = assign(rule, VALUES.masked_fill(~valid, 1e6), valid)
    everything = valid.clone()
    everything[0] = True
    want = assign(rule, VALUES, everything)
    assert got.complete.tolist() == [True] * 6 + [False, True]
    torch.testing.assert_close(got.advantages, want.advantages)
    assert (got.advantages[[2, 5]] != 0).all()
    assert got.known.equal(valid & got.complete)
    assert got.z[0, [2, 5]].eq(0).all()


def test_a_shaping_term_needs_the_reward_without_a_share() -> None:
    rule = recipe({"kind": "sars"}, {"kind": "constant", "prompt": 0.0})
    valid = VALID.clone()
    valid[0, 2] = False
    assert not assign(rule, VALUES, valid).complete[2]


@pytest.mark.parametrize("kind", STAND_ALONE)
def test_combined_rewards_are_told_from_shaping_terms(kind: str) -> None:
    assert assign(recipe({"kind": kind}, {"kind": "constant"})).stands_alone
    assert not assign(recipe({"kind": "sars"}, {"kind": "tdw"})).stands_alone


@pytest.mark.parametrize("shape, weights", ALL_RULES)
def test_nothing_known_is_no_credit(shape: dict[str, Any], weights: dict[str, Any]) -> None:
    got = assign(recipe(shape, weights), torch.zeros(2, 8), ~VALID)
    assert not got.complete.any()
    assert torch.equal(got.advantages, torch.zeros(8, STEPS))


def test_clip_and_floor_come_from_the_recipe() -> None:
    rule = recipe({"kind": "sars"}, {"kind": "tdw"}, clip=0.5)
    assert float(assign(rule).advantages.abs().max()) == 0.5
    flat = recipe({"kind": "none"}, {"kind": "constant"}, std_floor=1.0)
    got = assign(flat)
    assert got.z[1].eq(0).all() and got.z[0].ne(0).any()  # the second reward's std is below 1
    rule = recipe({"kind": "raw-sum"}, {"kind": "constant"}, std_floor=100.0)
    assert torch.equal(assign(rule).advantages, torch.zeros(8, STEPS))


def test_gamma_comes_from_the_recipe() -> None:
    for kind, function in (("sars", shaping.sars), ("harmonic", shaping.harmonic)):
        got = assign(recipe({"kind": kind, "gamma": 0.9}, {"kind": "tdw"}))
        torch.testing.assert_close(got.shaped, function(z_of(), 0.9))
        expected = advantages(z_of(), got.weights, function(z_of(), 0.9), 5.0)
        torch.testing.assert_close(got.advantages, expected)


def test_sides_are_those_of_the_recipe() -> None:
    rule = recipe({"kind": "none"}, {"kind": "tdw"})
    sections = rule.model_dump()
    sections["rewards"]["text"]["side"], sections["rewards"]["look"]["side"] = "identity", "prompt"
    sections["rewards"]["third"] = {**sections["rewards"]["look"]}
    got = assign(
        Recipe.model_validate(sections), torch.cat([VALUES, VALUES[:1]]), torch.cat([VALID] * 2)[:3]
    )
    prompt = timeweights.tdw(STEPS)
    torch.testing.assert_close(got.weights, torch.stack([1 - prompt, prompt / 2, prompt / 2]))


# ── gains ──


def some_finished() -> Tensor:
    """As before every step of a rollout with noise, ending with the samples' own rewards."""
    finished = torch.randn(2, 8, STEPS + 1, generator=torch.Generator().manual_seed(4))
    finished[..., 5:] = VALUES[..., None]
    return finished


def by_gains(finished: Tensor, weights: str = "tdw", **settings: Any) -> Assignment:
    rule = recipe({"kind": "gains", **settings}, {"kind": weights})
    return assign_credit(VALUES, VALID, rule, PLAN, 1, None, finished)


@pytest.mark.parametrize("weights", ["constant", *TDW_KINDS])
@pytest.mark.parametrize("settings", [{}, {"turning": True, "whiten": "step"}], ids=str)
def test_gains_are_weighed_at_their_own_step(weights: str, settings: dict[str, Any]) -> None:
    finished, steps = some_finished(), list(PLAN.trained)
    got = by_gains(finished, weights, **settings)
    gains = torch.stack([finished[..., t + 1] - finished[..., t] for t in steps], -1)
    torch.testing.assert_close(got.gains, gains)
    if settings:
        gains = with_turning_points(finished, VALUES, steps, got.complete)
        assert not torch.equal(gains, got.gains)
    z = gain_zscore(gains, got.complete, GROUP, bool(settings))
    torch.testing.assert_close(got.step_z, z)
    per_sample = got.weights if got.weights.ndim == 3 else got.weights[:, None]
    wanted = torch.zeros(8, STEPS)
    wanted[:, steps] = (per_sample[..., steps] * z).sum(0).clamp(-5, 5)
    torch.testing.assert_close(got.advantages, wanted)
    torch.testing.assert_close(got.z, z_of())  # what metrics compare rewards by
    assert not got.shaped.any() and not got.stands_alone


def test_a_sample_without_one_of_its_gains_is_left_out() -> None:
    finished = some_finished()
    finished[0, 2, 1] = finished[1, 5, 5] = math.nan  # before step 1, and after step 4
    finished[:, :, [0, 6]] = math.nan  # nobody asks for those
    got = by_gains(finished)
    assert got.complete.tolist() == [True, True, False, True, True, False, True, True]
    assert not got.advantages[~got.complete].any() and not got.z[:, ~got.complete].any()
    assert got.advantages.isfinite().all() and got.advantages[got.complete][:, 1].all()
    finished[0, 2, 4] = finished[1, 5, 1] = 1e6  # what else they have moves nobody
    torch.testing.assert_close(by_gains(finished).advantages, got.advantages)


def test_gains_of_a_reward_without_weight_may_be_missing() -> None:
    rule = recipe({"kind": "gains"}, {"kind": "constant", "prompt": 0.0})
    finished = some_finished()
    finished[0] = math.nan
    got = assign_credit(VALUES, VALID, rule, PLAN, 1, None, finished)
    assert got.complete.all() and got.advantages[:, list(PLAN.trained)].all()


def test_gains_that_were_not_measured_are_an_error() -> None:
    rule = recipe({"kind": "gains"}, {"kind": "tdw"})
    with pytest.raises(ValueError, match="needs rewards of images finished from each step"):
        assign_credit(VALUES, VALID, rule, PLAN, 1)


# ── diagnostics ──


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        *(("sars", "tdw"), ("harmonic", "tdw-as-released"), ("gains", "tdw")),
        *((alone, "constant") for alone in STAND_ALONE),
    ],
)
def test_a_diagnostic_has_no_part_in_credit(kind: str, weights: str) -> None:
    plain = recipe({"kind": kind}, {"kind": weights})
    content = plain.model_dump()
    seen = {"kind": "dino", "side": "diagnostic"}
    content["rewards"] = {"seen": seen, **content["rewards"]}
    watched = Recipe.model_validate(content)
    values = torch.cat([torch.tensor([[3.0, 1, 2, 9, 4, 4, 4, 4]]), VALUES])
    valid = torch.cat([torch.tensor([[True] * 3 + [False] * 5]), VALID])
    want, got = assign(plain), assign(watched, values, valid)
    assert got.complete.equal(want.complete) and got.advantages.equal(want.advantages)
    assert got.shaped.equal(want.shaped) and got.z[1:].equal(want.z)
    assert got.weights[1:].equal(want.weights) and not got.weights[0].any()
    assert got.z[0].tolist() == pytest.approx([1, -1, 0, 0, 0, 0, 0, 0], abs=1e-6)


def test_single_counts_credited_rewards_only() -> None:
    plain = recipe({"kind": "single", "reward": "look"}, {"kind": "constant"})
    content = plain.model_dump()
    content["rewards"] = {"seen": {"kind": "dino", "side": "diagnostic"}, **content["rewards"]}
    got = assign(
        Recipe.model_validate(content), torch.cat([VALUES[:1] * 0, VALUES]), VALID[[0, 0, 1]]
    )
    assert got.advantages.equal(assign(plain).advantages)
