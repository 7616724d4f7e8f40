"""Every kind of reward is built from its section, and says which field is wrong."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rewards.hpsv3_tiny import write_base, write_checkpoint
from tiny import a_task, photo

from likewise import assets
from likewise.builders.rewards import REWARDS, build_evaluators, build_reward, build_rewards
from likewise.config import Recipe, RecipeError
from likewise.protocols import GroupReward

CPU = torch.device("cpu")
KEY = "sk-a-secret-key"


def subject_on_the_left(images: list[Image.Image], class_names: list[str]) -> list[Image.Image]:
    """A custom segmenter."""
    masks = [Image.new("L", image.size, 0) for image in images]
    for mask in masks:
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
    return masks


def built(**settings: Any) -> Any:
    content = {"one": settings, "text": {"kind": "clip"}, "look": {"kind": "dino"}}
    recipe = Recipe.model_validate({"name": "a", "rewards": content})
    return build_rewards(recipe, CPU)["one"]


def test_the_table_and_the_sections_agree() -> None:
    schema = Recipe.model_json_schema()["properties"]["rewards"]["additionalProperties"]
    assert set(schema["discriminator"]["mapping"]) == set(REWARDS)


def test_a_reward_has_a_device_of_its_own() -> None:
    content = {
        "text": {"kind": "clip"},
        "here": {"kind": "dino"},
        "there": {"kind": "dino", "device": "cpu"},
        "same": {"kind": "copy-index", "side": "diagnostic", "device": "cpu"},
    }
    found: Any = build_rewards(Recipe.model_validate({"name": "a", "rewards": content}), CPU)
    assert found["here"].model is found["there"].model is found["same"].encoder.model  # one device
    with pytest.raises(ValueError, match=r"rewards\.one\.device: there is no cuda:97"):
        built(kind="dino", side="identity", device="cuda:97")
    with pytest.raises(ValueError, match=r"rewards\.one\.device: cuda:\+1 counts from the GPU"):
        built(kind="clip", device="cuda:+1")
    with pytest.raises(ValueError, match="device"):
        built(kind="clip", device="gpu 1")


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({"kind": "clip"}, -1, 1),
        ({"kind": "clip", "compare_to": "reference"}, 1 - 1e-5, 1 + 1e-5),
        ({"kind": "dino"}, 1 - 1e-5, 1 + 1e-5),
        (
            {"kind": "dino", "segment": True, "segmenter": f"{__name__}:subject_on_the_left"},
            -1,
            1 - 1e-3,
        ),
        (
            {
                "kind": "dino",
                "segment": True,
                "segment_generated": True,
                "segmenter": f"{__name__}:subject_on_the_left",
            },
            1 - 1e-5,
            1 + 1e-5,
        ),
        ({"kind": "pickscore", "model": str(assets.path("nano-clip")), "processor": None}, -99, 99),
    ],
)
def test_settings_reach_the_reward(settings: dict[str, Any], low: float, high: float) -> None:
    """Each rates a copy of the reference."""
    image = photo(48, 40)
    values, valid = built(**settings).score([image], [a_task(reference=image)])
    assert valid.all() and low <= float(values) <= high


def test_hpsv3_is_built_from_checkpoint_and_base(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    write_checkpoint(tmp_path / "weights.safetensors")
    files = {"model": str(tmp_path / "weights.safetensors"), "base": str(tmp_path / "base")}
    reward = built(kind="hpsv3", **files, dtype="float32", batch=3)
    assert reward.batch == 3
    values, valid = reward.score([photo(30, 30)], [a_task()])
    assert valid.all() and values.isfinite().all()


def test_a_group_reward_cannot_be_served() -> None:
    assert isinstance(built(kind="in-group-diversity", side="diagnostic"), GroupReward)
    with pytest.raises(RecipeError, match="compares the images of a group"):
        build_reward("in-group-diversity", {"model": "no/such-model"}, "cpu")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("dinos", {}, "rewards.dinos.kind: unknown kind 'dinos'; did you mean 'dino'?"),
        ("dino", {"modle": "a"}, "rewards.dino.modle: unknown key of kind 'dino'; did you mean"),
        ("vlm-judge", {"api_key_env": KEY, "model": "a"}, "rewards.vlm-judge.base_url: required"),
    ],
)
def test_wrong_settings_without_a_recipe(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_reward(kind, settings, "cpu")
    assert message in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_rewards_of_whole_images_share_an_encoder() -> None:
    seen = {"side": "diagnostic"}
    content = {
        "copying": {"kind": "copy-index", **seen},
        "text": {"kind": "clip"},
        "look": {"kind": "dino"},
        "variety": {"kind": "in-group-diversity", **seen},
    }
    found: Any = build_rewards(Recipe.model_validate({"name": "a", "rewards": content}), CPU)
    assert found["copying"].encoder is found["variety"].encoder is found["look"]


def test_the_copy_index_is_a_penalty_where_it_is_credited() -> None:
    image = photo(48, 40)
    task = replace(a_task(reference=image), other_photos=(photo(30, 30, 1),))
    for side, expected in (("diagnostic", 1), ("identity", -1)):
        values, _ = built(kind="copy-index", side=side).score([image], [task])
        assert values.tolist() == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "clip", "model": "no/such-model"}, "rewards.one.model: "),
        ({"kind": "dino", "model": "nano-clip"}, "rewards.one.model: "),
        (
            {"kind": "dino", "segment": True, "segmenter": "nothing.onnx"},
            "rewards.one.segmenter: there is no file nothing.onnx",
        ),
        ({"kind": "pickscore", "model": "no/such-model"}, "rewards.one.model: "),
        ({"kind": "hpsv3", "base": "no/such-model"}, "rewards.one.base: "),
        ({"kind": "copy-index", "side": "diagnostic", "model": "x/y"}, "rewards.one.model: "),
        ({"kind": "function", "side": "prompt", "target": "no_such:thing"}, "rewards.one.target: "),
    ],
)
def test_what_cannot_be_loaded_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        built(**settings)
    assert str(caught.value).startswith(message)


def test_evaluators_are_the_recipe_s_else_those_of_stickers() -> None:
    rewards = {"text": {"kind": "clip"}, "look": {"kind": "dino"}}
    own = {"mine": {"kind": "function", "side": "prompt", "target": "math:hypot"}}
    plain = Recipe.model_validate({"name": "a", "rewards": rewards})
    named = Recipe.model_validate({"name": "a", "rewards": rewards, "evaluators": own})
    assert list(build_evaluators(None, CPU, stickers=True)) == ["identity", "prompt"]
    assert list(build_evaluators(plain, CPU, stickers=True)) == ["identity", "prompt"]
    assert list(build_evaluators(plain, CPU, stickers=False)) == []
    assert list(build_evaluators(named, CPU, stickers=True)) == ["mine"]
    lost = {"mine": {"kind": "dino", "model": "nowhere/at-all"}}
    wrong = Recipe.model_validate({"name": "a", "rewards": rewards, "evaluators": lost})
    with pytest.raises(ValueError, match=r"evaluators\.mine\.model: "):
        build_evaluators(wrong, CPU, stickers=True)
