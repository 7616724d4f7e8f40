"""Names of models, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likewise.builders.policies import build_policy, copy_size
from likewise.config.loading import load_recipe


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"policy\.model: there is no folder nowhere, .*nano-kontext.* owner/name"),
        ("{tmp}/model", r"policy\.model: there is no folder /"),
        ("a/b/c", r"policy\.model: there is no folder a/b/c"),
        ("{tmp}/flux.gguf", r"policy\.model: .*flux\.gguf is a single file; wanted a folder"),
        ("{tmp}/flux.safetensors", r"policy\.model: .* is a single file; wanted a folder"),
    ],
)
def test_a_model_that_is_none_is_told_by_its_field(name: str, message: str, tmp_path: Path) -> None:
    for file in ("flux.gguf", "flux.safetensors"):
        (tmp_path / file).touch()
    model = name.format(tmp=tmp_path)
    with pytest.raises(ValueError, match=message):
        build_policy(load_recipe("stickers", [f"policy.model={model}"]), torch.device("cpu"))


@pytest.mark.parametrize("sharding", ["fsdp2", "hybrid"])
def test_an_open_number_of_processes_is_told(sharding: str) -> None:
    recipe = load_recipe("stickers", ["run.processes=auto", f"run.sharding={sharding}"])
    with pytest.raises(ValueError, match=r"run\.processes is auto: settle the recipe first"):
        copy_size(recipe)


def test_without_sharding_processes_may_be_open() -> None:
    assert copy_size(load_recipe("stickers", ["run.processes=auto"])) == 1
