"""The models of a recipe: every section is closed, every field typed, sections fit together."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from likewise.config import Recipe, RecipeError, load_recipe, shipped_recipes

LEAVES = (str, int, float, bool, type(None))


def parts(annotation: Any) -> Iterator[Any]:
    """Leaf types and sections that `annotation` is built of, metadata left out."""
    origin = get_origin(annotation)
    if origin is Literal or origin is None:
        yield annotation
    elif origin in (Union, types.UnionType, list, tuple, dict):
        for argument in get_args(annotation):
            yield from parts(argument)
    else:  # Annotated
        yield from parts(get_args(annotation)[0])


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from sections(part)


SECTIONS = sorted(set(sections(Recipe)), key=lambda section: section.__name__)


def mappings(content: Any, path: str = "") -> Iterator[str]:
    """Dotted path of every mapping, the outermost as ""."""
    if isinstance(content, dict):
        yield path
        for key, value in content.items():
            yield from mappings(value, f"{path}.{key}".strip("."))


def test_the_walk_reaches_all_sections() -> None:
    names = {section.__name__ for section in SECTIONS}
    assert {"Recipe", "FluxKontext", "Dino", "WindowSteps", "Combined", "Checkpoints"} <= names


@pytest.mark.parametrize("section", SECTIONS)
def test_section_is_closed_immutable_and_typed(section: type[BaseModel]) -> None:
    assert section.model_config.get("extra") == "forbid"
    assert section.model_config.get("frozen")
    assert section.__doc__ or section.__name__ == "Checkpoints"
    for name, field in section.model_fields.items():
        for part in parts(field.annotation):
            known = part in LEAVES or part in SECTIONS or get_origin(part) is Literal
            assert known, f"{section.__name__}.{name} takes anything: {part}"


@pytest.mark.parametrize("path", list(mappings(load_recipe().model_dump())))
def test_unknown_key_is_refused_anywhere(path: str) -> None:
    key = f"{path}.zzz".strip(".")
    with pytest.raises(RecipeError, match=f"override {key}=1: {key}: "):
        load_recipe("stickers", [f"{key}=1"])


def test_stickers_spells_out_the_paper() -> None:
    recipe = load_recipe()
    assert recipe.name == "stickers"
    assert recipe.policy.dtype == "auto"
    assert {name: reward.side for name, reward in recipe.rewards.items()} == {
        "prompt": "prompt",
        "identity": "identity",
    }
    assert recipe.credit.shaping.model_dump() == {"kind": "sars", "gamma": 0.4}
    assert recipe.credit.time_weights.kind == "tdw"
    assert recipe.rollout.group_size == 12
    assert recipe.objective.clip_range == 1e-4


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "name=a/b",
        "policy.height=0",
        "policy.dtype=int8",
        "adapter.rank=0",
        "adapter.alpha=-1",
        "adapter.rank=100000",
        "adapter.rank=1e20",
        "adapter.alpha=1e300",
        "credit.std_floor=1e300",
        "optimizer.learning_rate=3e38",
        "optimizer.weight_decay=1e300",
        "optimizer.max_grad_norm=1e300",
        "rollout.shift=1e300",
        "rollout.noise_level=1e-30",
        "run.threads=1000000",
        "run.iterations=1000000000000",
        "seed=99999999999999999999",
        "rollout.tasks=1.5",
        "rollout.group_size=1",
        "rollout.num_steps=0",
        "rollout.shift=0",
        "rollout.noise_level=0",
        "rollout.deterministic_tail=-1",
        "rollout.trained.fraction=0",
        "rollout.trained.fraction=1.1",
        "rewards.prompt.weight=-1",
        "rewards.prompt.side=both",
        "credit.clip=0",
        "credit.std_floor=-1",
        "credit.shaping.gamma=-0.1",
        "credit.shaping={kind: gd2po, threshold: 0}",
        "credit.shaping={kind: gd2po, threshold: 1.1}",
        "credit.shaping={kind: gd2po, whiten: none}",
        "credit.shaping={kind: gains, whiten: batch}",
        "credit.shaping={kind: hinge-gate, penalty: 0}",
        "credit.shaping={kind: hinge-gate, floor: guessed}",
        "credit.shaping={kind: hinge-gate, gate: both}",
        "credit.time_weights.high=1.1",
        "objective.clip_range=0",
        "optimizer.learning_rate=0",
        "optimizer.betas=[0.9]",
        "optimizer.ema_decay=1",
        "optimizer.eps=0",
        "optimizer.eps=1e-60",
        "optimizer.split=rows",
        "run.iterations=0",
        "run.processes=0",
        "run.trackers=[mlflow]",
        "run.evaluation.every=-1",
        "run.checkpoints.keep=0",
        "rewards.judge={kind: vlm-judge, base_url: 'http://a', model: a, side: diagnostic}",
        "rewards.seen={kind: dino, side: diagnostic, weight: 2}",
    ],
)
def test_value_out_of_range_is_refused_where_it_stands(override: str) -> None:
    path = override.partition("=")[0]
    with pytest.raises(RecipeError) as caught:
        load_recipe("stickers", [override])
    assert str(caught.value).startswith(f"override {override}: {path}")


REMOTE = "{kind: remote, url: 'http://a', side: prompt, deadline: 40}"
CONSTANT = "credit.time_weights.kind=constant"
MEASURED = "credit.time_weights={{kind: measured, prompt: {}, identity: {}}}"
SD = ["policy.kind=sd-ip-adapter", "rollout.transition=ddim", "rollout.noise_level=1"]
WINDOW = "rollout.trained.kind=window"


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["rollout.deterministic_tail=10"], "must leave at least one of num_steps"),
        (["run.shard_size=2"], "run.shard_size has no effect with run.sharding none"),
        (["run.sharding=fsdp2", "run.shard_size=2"], "no effect with run.sharding fsdp2"),
        *(
            (["run.sharding=fsdp2", *override], f"{name} does not go with run.sharding fsdp2")
            for name, *override in [
                ("policy.quantization", "policy.quantization=torchao-int8"),
                ("policy.compile", "policy.compile=true", "objective.ratio_tolerance=1e-6"),
                ("policy.dtype float16", "policy.dtype=float16"),
                ("optimizer.gradients.kind", "optimizer.gradients.kind=pcgrad"),
                ("optimizer.gradients.measure_every", "optimizer.gradients.measure_every=1"),
            ]
        ),
        (
            ["run.timeout=60", f"rewards.other={REMOTE}"],
            "run.timeout is 60 s, and rewards.other.deadline lets one process wait 40 s",
        ),
        (
            ["rollout.transition=cps", "rollout.deterministic_tail=0"],
            "set deterministic_tail to 1 or more",
        ),
        (
            ["rollout.transition=cps", "rollout.deterministic_tail=1", "rollout.noise_level=1.2"],
            "noise_level of cps must be at most 1",
        ),
        (
            ["rollout.num_steps=1", "rollout.deterministic_tail=0", "rollout.trained.kind=all"],
            "flow-sde needs num_steps of at least 2",
        ),
        (["adapter.reference=start"], "reference start needs an adapter to start from"),
        (
            ["adapter.start=x.safetensors", "adapter.reference=start"],
            "adapter.reference start is for objective.kl, which is 0",
        ),
        ([WINDOW, "rollout.trained.size=11"], "a window of 11 in 9 stochastic steps"),
        ([WINDOW, "rollout.trained.first=8"], "not at 8 to 3"),
        ([MEASURED.format("[1, 2]", "[1, 2]")], "2 of identity, but rollout.num_steps is 10"),
        ([MEASURED.format([1] * 6, [1] * 5)], "has 6 shares of prompt and 5 of identity"),
        (["credit.shaping.kind=minimum"], "set time_weights.kind to constant"),
        (
            [CONSTANT, "credit.shaping.kind=single", "credit.shaping.reward=beauty"],
            "credit.shaping.reward is 'beauty', but rewards are prompt, identity",
        ),
        (["~rewards.identity"], "credit.shaping 'sars' needs at least two rewards"),
        (
            ["~rewards.identity", CONSTANT, "credit.shaping.kind=product"],
            "credit.shaping 'product' needs at least two rewards",
        ),
        (
            [CONSTANT, "credit.shaping.kind=hinge-gate", "rewards.identity.side=prompt"],
            "credit.shaping 'hinge-gate' needs a reward of side prompt and one of side identity",
        ),
        (
            [CONSTANT, "credit.shaping.kind=hinge-gate", "rewards.prompt.weight=0"],
            "each with a weight above 0",
        ),
        (
            [
                "objective.guard=true",
                "rollout.transition=cps",
                "rollout.deterministic_tail=1",
            ],
            "objective.guard is valid for flow-sde and dance-sde, not for cps",
        ),
        (
            ["credit.shaping.kind=gains", "objective.kind=nft"],
            "credit.shaping 'gains' is about the noise of stored steps, and objective nft draws",
        ),
        (
            [
                "credit.shaping.kind=gains",
                "rewards.mine={kind: in-group-diversity, side: identity}",
            ],
            "rewards.mine compares those of a group: make it a diagnostic",
        ),
        (
            ["objective.kind=nft", "rollout.shared_noise=true"],
            "images of a group would all be the same with rollout.shared_noise",
        ),
        (
            ["objective.kind=awm", "credit.time_weights.kind=tdw-as-released"],
            "about the order in which grpo trains stored steps, and objective awm has none",
        ),
        (
            ["objective.kind=nft", "objective.levels=uniform", *SD],
            "objective.levels uniform is for flows: sd-ip-adapter knows",
        ),
        (
            ["objective.kind=crd", "objective.solver=dpm-solver++", *SD],
            "objective.solver dpm-solver++ is for flows: use euler",
        ),
        (
            ["optimizer.updates_per_iteration=3"],
            "(3) must divide rollout.tasks (8) where optimizer.split is tasks",
        ),
        (
            ["optimizer.updates_per_iteration=8", "optimizer.split=samples"],
            "(8) must divide rollout.group_size (12) where optimizer.split is samples",
        ),
        (
            [
                "optimizer.updates_per_iteration=3",
                "optimizer.split=samples",
                "objective={kind: dgpo}",
            ],
            "optimizer.split samples does not go with objective.kind dgpo",
        ),
        (["rewards.identity.segment_generated=true"], "segment_generated needs a segmenter"),
        (
            ["rewards.identity.segmenter=mine:find", "rewards.identity.segment=false"],
            "segmenter does nothing unless segment or segment_generated is true",
        ),
        (["rewards.identity.blur=0.1"], "blur does nothing where band is all"),
        (
            ["rewards.prompt.side=diagnostic", "rewards.identity.side=diagnostic"],
            "rewards are all diagnostics: give one of them a side",
        ),
        (["rewards.prompt.side=diagnostic"], "needs at least two rewards, diagnostics aside"),
        (
            [
                CONSTANT,
                "rewards.identity.side=diagnostic",
                "credit.shaping={kind: single, reward: identity}",
            ],
            "credit.shaping.reward is 'identity', but rewards are prompt",
        ),
        (
            ["evaluators.look={kind: dino, side: identity, model: nano-dinov2}"],
            "evaluators.look measures with nano-dinov2, as rewards.identity does",
        ),
        (
            ["evaluators.mine={kind: in-group-diversity, side: diagnostic}"],
            "evaluators.mine: in-group-diversity compares the images of a group",
        ),
    ],
)
def test_sections_that_do_not_fit_are_refused(overrides: list[str], fragment: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("stickers", overrides)
    message = str(caught.value)
    assert fragment in message
    assert message.startswith("stickers.yaml with ")
    assert any(override in message for override in overrides)


@pytest.mark.parametrize(
    ("prompt", "identity", "fragment"),
    [
        ([1] * 6, [0] * 6, ": identity needs at least one share above 0"),
        ([1] * 6, [1] * 5 + [-1], ".identity.5: should be greater than or equal to 0, not -1"),
        ([], [1] * 6, ": prompt needs at least one share above 0"),
        ("null", [1] * 6, ".prompt: should be a valid list"),
    ],
)
def test_shares_that_weigh_nothing_are_refused(
    prompt: object, identity: object, fragment: str
) -> None:
    override = MEASURED.format(prompt, identity)
    with pytest.raises(RecipeError) as caught:
        load_recipe("stickers", [override])
    assert f"credit.time_weights{fragment}" in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [WINDOW, "rollout.trained.size=5"],
        ["rollout.transition=cps", "rollout.deterministic_tail=1"],
        ["~rewards.identity", "credit.shaping.kind=none", CONSTANT],
        ["credit.shaping={kind: hinge-gate, gate: prompt, floor: -0.5}", CONSTANT],
        ["rewards.mine={kind: function, side: prompt, target: 'my_module:my_reward'}"],
        ["adapter.kind=full"],
        ["adapter.targets=[to_q, to_k]"],
        ["run.processes=2"],
        ["rewards.seen={kind: in-group-diversity, side: diagnostic}"],
        ["evaluators.look={kind: dino, side: identity, model: facebook/dino-vits16}"],
        [
            "credit.shaping={kind: gains, turning: true, whiten: step}",
            "rewards.seen={kind: in-group-diversity, side: diagnostic}",
        ],
        [  # a diagnostic is not trained on
            "rewards.other={kind: dino, side: diagnostic, model: a}",
            "evaluators.look={kind: dino, side: identity, model: a}",
        ],
        ["rewards.identity.segmenter=mine:find", "rewards.identity.segment_generated=true"],
        [
            "rewards.judge={kind: vlm-judge, base_url: 'http://a/v1', model: a, side: diagnostic, "
            "score: prompt}"
        ],
    ],
)
def test_other_valid_recipes(overrides: list[str]) -> None:
    load_recipe("stickers", overrides)


def test_clip_against_the_reference_stands_for_identity() -> None:
    def side(**settings: str) -> str:
        rewards = {"one": {"kind": "clip", **settings}, "look": {"kind": "dino"}}
        credit = {"time_weights": {"kind": "constant"}}
        content = {"name": "a", "rewards": rewards, "credit": credit}
        return Recipe.model_validate(content).rewards["one"].side

    assert side() == "prompt"
    assert side(compare_to="reference") == "identity"
    assert side(compare_to="reference", side="prompt") == "prompt"


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_train_off_benchmarks_and_are_evaluated(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.evaluator_names) == {"identity", "prompt"}
    assert recipe.data.kind != "dreambench"


def test_photos_have_the_evaluators_that_the_recipe_names_alone() -> None:
    photos = "data={kind: folder, path: here}"
    look = "evaluators.look={kind: dino, side: identity, model: elsewhere}"
    assert load_recipe("stickers").evaluator_names == ("identity", "prompt")
    assert load_recipe("stickers", [photos]).evaluator_names == ()
    assert load_recipe("stickers", [photos, look]).evaluator_names == ("look",)
