"""Every setting changes something, or is refused where it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from test_recipe import SECTIONS

import likewise
from likewise.algorithm.timeweights import reversed_tdw, tdw
from likewise.config import Recipe, RecipeError, load_recipe
from likewise.config.credit_rules import READ_WEIGHTS
from likewise.config.section import LARGEST
from likewise.rollout.steps import plan_steps

SOURCE = Path(likewise.__file__).parent
DESCRIPTIVE = {"Recipe.description"}  # for people


def fields() -> Iterator[tuple[type[BaseModel], str]]:
    for section in SECTIONS:
        for name in section.model_fields:
            if f"{section.__name__}.{name}" not in DESCRIPTIVE:
                yield section, name


@pytest.fixture(scope="module")
def words() -> set[str]:
    """All names in the package, apart from where recipes are declared."""
    files = [file for file in SOURCE.rglob("*.py") if SOURCE / "config" not in file.parents]
    return {word for file in files for word in re.findall(r"\w+", file.read_text("utf-8"))}


def test_every_field_is_read_somewhere(words: set[str]) -> None:
    unread = [f"{section.__name__}.{name}" for section, name in fields() if name not in words]
    assert unread == []


def test_no_field_takes_a_number_that_is_no_number() -> None:
    """Whatever a field's own range is, none reaches what float32 or memory cannot hold."""
    recipe = load_recipe()

    def walk(section: BaseModel, path: str) -> Iterator[str]:
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                yield from walk(value, f"{path}{name}.")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{path}{name}"

    numbers = list(walk(recipe, ""))
    assert len(numbers) > 20
    for path in numbers:
        for giant in ("1e300", ".inf", ".nan", "-1e300"):
            with pytest.raises(RecipeError, match=path):
                load_recipe("stickers", [f"{path}={giant}"])
    assert LARGEST < 3e38


WHOLE = [
    file
    for file in sorted((SOURCE / "config" / "recipes").glob("*.yaml"))
    if "extends:" not in file.read_text("utf-8")
]


@pytest.mark.parametrize("file", WHOLE, ids=lambda file: file.stem)
def test_a_recipe_says_where_the_final_stage_has_no_step(file: Path) -> None:
    """Its level is at the default there, which is never refused."""
    rollout = load_recipe(file).rollout
    trained = range(rollout.num_steps - rollout.deterministic_tail)
    in_stage = [step for step in trained if step >= 0.88 * rollout.num_steps]
    (line,) = [line for line in file.read_text("utf-8").splitlines() if " final: " in line]
    assert ("no trained step" in line) == (not in_stage)


CONSTANT = "credit.time_weights.kind=constant"
ONE_SIDE = ["rewards.identity={kind: clip, side: prompt}", "credit.shaping.kind=none"]
DDIM = ["rollout.transition=ddim", "rollout.noise_level=1", "policy.kind=sd-ip-adapter"]
PHOTOS = "data={{kind: folder, path: a, {}}}"


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["rewards.prompt.weight=2"], "rewards.prompt.weight has no effect with credit.shaping"),
        (
            ["credit.shaping.kind=minimum", CONSTANT, "rewards.identity.weight=0"],
            "rewards.identity.weight has no effect with credit.shaping 'minimum'",
        ),
        (
            [
                *("credit.shaping.kind=gdpo", CONSTANT),
                *("rewards.prompt.weight=0", "rewards.identity.weight=0"),
            ],
            "rewards all have weight 0",
        ),
        (
            ["credit.shaping.kind=gd2po", CONSTANT, "rewards.prompt.weight=0"],
            "only one reward has a weight above 0: use gdpo",
        ),
        (
            ["credit.shaping.kind=hinge-gate", "credit.time_weights={kind: constant, prompt: 0.7}"],
            "credit.time_weights.prompt has no effect with credit.shaping 'hinge-gate'",
        ),
        (
            ["credit.shaping.kind=gains", "rollout.trained.size=1"],
            "credit.shaping 'gains' gives the credit of 'none' where one step is random",
        ),
        (
            [
                *("credit.shaping={kind: gains, turning: true}", "rollout.trained.size=1"),
                "rollout.shared_noise=false",
            ],
            "credit.shaping.turning has no effect with one random step",
        ),
        (
            ["credit.shaping.kind=gains", "rewards.prompt.weight=2"],
            "rewards.prompt.weight has no effect with credit.shaping 'gains'",
        ),
        (ONE_SIDE, "credit.time_weights 'tdw' balances prompt and identity, but all rewards"),
        (
            [*ONE_SIDE, CONSTANT, "credit.time_weights.prompt=0.7"],
            "credit.time_weights.prompt has no effect with only prompt rewards",
        ),
        (
            ["credit.shaping.kind=product", CONSTANT, "credit.time_weights.prompt=0.7"],
            "credit.time_weights.prompt has no effect with credit.shaping 'product'",
        ),
        (["credit.time_weights.final=0.6"], "credit.time_weights.final has no effect"),
        (
            ["credit.time_weights={kind: tdw-as-released, final: 0.6}"],
            "credit.time_weights.final has no effect",
        ),
        (["policy.negative_prompt=blurry"], "policy.negative_prompt has no effect where"),
        (["policy.batched_cfg=true"], "policy.batched_cfg has no effect where"),
        (
            [*DDIM, "policy.guidance_scale=1", "policy.negative_prompt=blurry"],
            "policy.negative_prompt has no effect where policy.guidance_scale is 1",
        ),
        (
            [*DDIM, "policy.ip_adapter=null", "policy.image_encoder=mine"],
            "policy.image_encoder has no effect without policy.ip_adapter",
        ),
        (
            ["policy={kind: flux-uno, uno_lora: null, merge_uno: false}"],
            "policy.merge_uno has no effect without policy.uno_lora",
        ),
        (["objective.clip_range=0.2"], "objective.clip_range has no effect with"),
        (
            ["objective.kind=awm", "objective.clip_range=0.2"],
            "objective.clip_range has no effect with",
        ),
        (["objective.kind=nft", "objective.kl_old=0.2"], "objective.kl_old has no effect with"),
        (
            [PHOTOS.format("evaluation: b, held_out: 3")],
            "data.held_out has no effect beside data.evaluation",
        ),
        (["policy.compile=true"], "set objective.ratio_tolerance"),
        (["policy.offload_activations=true"], "what policy.gradient_checkpointing keeps"),
        (
            ["run.deterministic=true", "policy.attention=flash"],
            "run.deterministic does not go with policy.attention 'flash'",
        ),
        (
            ["optimizer.split=samples"],
            "optimizer.split has no effect with optimizer.updates_per_iteration 1",
        ),
        (
            ["optimizer.schedule=constant", "optimizer.warmup_steps=3"],
            "schedule constant has no warmup_steps",
        ),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(overrides: list[str], fragment: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("stickers", overrides)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        *(
            [f"credit.shaping.kind={kind}", CONSTANT, "rewards.prompt.weight=2"]
            for kind in READ_WEIGHTS
        ),
        [*ONE_SIDE, CONSTANT],
        ["policy.true_cfg_scale=2", "policy.negative_prompt=blurry", "policy.batched_cfg=true"],
        ["objective.clip_range=0.2", "optimizer.updates_per_iteration=2"],
        ["objective.kind=nft", "objective.kl_old=0.2", "objective.old.kind=average"],
        ["objective.clip_range=0.2", "objective.ratio_tolerance=1e-5"],
        ["optimizer.split=samples", "optimizer.updates_per_iteration=3"],
        ["policy.compile=true", "objective.ratio_tolerance=1e-5"],
        ["run.deterministic=true", "policy.attention=native"],
        [PHOTOS.format("evaluation: b")],
        [PHOTOS.format("held_out: 3")],
    ],
)
def test_the_same_setting_is_taken_where_it_counts(overrides: list[str]) -> None:
    load_recipe("stickers", overrides)


@pytest.mark.parametrize("steps", [6, 9, 17, 25])
@pytest.mark.parametrize("tail", [0, 1, 2])
@pytest.mark.parametrize("trained", ["{kind: all}", "{kind: window, size: 2, first: 1}"])
def test_a_level_is_taken_if_a_step_has_it_and_only_then(
    steps: int, tail: int, trained: str
) -> None:
    shape = [f"rollout.num_steps={steps}", f"rollout.deterministic_tail={tail}"]
    shape += [f"rollout.trained={trained}"]
    rollout = load_recipe("stickers", shape).rollout
    seen = sorted({step for i in range(150) for step in plan_steps(rollout, 0, i).trained})
    for kind, weights in (("tdw", tdw), ("reversed-tdw", reversed_tdw)):
        for level, value in (("high", 0.8), ("low", 0.2), ("final", 0.6)):
            counts = not weights(steps)[seen].equal(weights(steps, **{level: value})[seen])
            rule = [f"credit.time_weights={{kind: {kind}, {level}: {value}}}"]
            assert _is_taken([*shape, *rule]) == counts, (kind, level)


def _is_taken(overrides: list[str]) -> bool:
    try:
        return isinstance(load_recipe("stickers", overrides), Recipe)
    except RecipeError:
        return False
