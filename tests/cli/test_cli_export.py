"""`likewise export`: from a run to files that other programs read, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline
from running import run, said
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import likewise
from likewise import assets
from likewise.api.generation import find_adapter
from likewise.config import load_recipe
from likewise.devices import dtype_of

LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def adapter(finished_run: Path) -> Path:
    _, folder = find_adapter(finished_run, None)
    assert folder is not None
    return folder


def copied(adapter: Path, to: Path, rename: dict[str, str] | None = None) -> Path:
    """A copy of an adapter's file, some of its keys renamed."""
    to.mkdir()
    with safe_open(adapter / LORA, framework="pt") as stored:
        header = stored.metadata()
    weights = load_file(adapter / LORA)
    for old, new in (rename or {}).items():
        weights[new] = weights.pop(old)
    save_file(weights, to / LORA, metadata=header)
    return to


def test_a_run_becomes_a_file_of_each_format(finished_run: Path, tmp_path: Path) -> None:
    for file_format, reader in (
        ("diffusers", "diffusers"),
        ("comfyui", "diffusers"),
        ("kohya", "likewise's own inverse"),
    ):
        out = tmp_path / "new" / f"{file_format}.safetensors"
        result = run("export", finished_run, "--format", file_format, "--out", out)
        assert result.exit_code == 0, result.output
        assert f"{out}: read back by {reader}, its weights differ by" in said(result)
        assert [file.name for file in out.parent.glob(".*")] == []
        assert out.stat().st_mode == (finished_run / "recipe.yaml").stat().st_mode
        with safe_open(out, framework="pt") as stored:
            about = json.loads(stored.metadata()["likewise"])
        assert about == {
            "checkpoint": "iteration-000001",
            "model": "nano-kontext",
            "policy": "flux-kontext",
            "recipe": "stickers",
            "version": likewise.__version__,
        }
    plain = FluxKontextPipeline.from_pretrained(assets.path("nano-kontext"))
    plain.load_lora_weights(tmp_path / "new" / "diffusers.safetensors")
    config = plain.transformer.peft_config["default_0"]
    recipe = load_recipe("stickers")
    assert (config.r, config.lora_alpha) == (recipe.adapter.rank, recipe.adapter.alpha)


def test_from_python_into_the_current_folder(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = copied(adapter, tmp_path / "mine")  # without a run around it, hence by stickers' model
    with pytest.raises(ValueError, match="did you mean 'kohya'"):
        likewise.export(mine, "kohia")
    monkeypatch.chdir(tmp_path)
    found = likewise.export(mine, device="cpu")
    assert found.file == Path("mine-diffusers.safetensors") and found.file.is_file()
    rounded = dtype_of(load_recipe("stickers").policy.dtype, "cpu") == torch.bfloat16
    assert found.velocity == 0 and (found.weights > 0) == rounded  # by diffusers, when it loads
    assert found.weights < 5e-3
    assert likewise.export(mine).file == found.file  # as other commands, it replaces files


def test_full_weights_go_into_a_folder(tmp_path: Path) -> None:
    recipe = load_recipe("stickers", ["adapter.kind=full"])
    folder, out = tmp_path / "adapter", tmp_path / "out"
    shutil.copytree(assets.path("nano-kontext") / "transformer", folder / "transformer")
    found = likewise.export(folder, "diffusers", out, recipe)
    assert (found.weights, found.velocity) == (0, 0)
    assert (out / "config.json").is_file() and found.reader == "diffusers' from_pretrained"
    for file_format, target, message in (
        ("diffusers", out, "out is there already: full weights need a new or empty folder"),
        ("kohya", tmp_path / "other", "holds full weights, and kohya files hold LoRAs"),
    ):
        with pytest.raises(ValueError, match=message):
            likewise.export(folder, file_format, target, recipe)
    assert not (tmp_path / "other").exists()


def test_errors(finished_run: Path, adapter: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(finished_run, empty, ignore=shutil.ignore_patterns("iteration-*"))
    key = sorted(load_file(adapter / LORA))[0]
    odd = copied(adapter, tmp_path / "odd", {key: key.replace("_blocks.0", "_blocks.77")})
    out = tmp_path / "out.safetensors"
    photo = tmp_path / "photo.png"
    photo.touch()
    for words, message in (
        ([finished_run, "--format", "kohia"], "'kohia' is not one of"),
        ([finished_run, "--out", tmp_path], f"{tmp_path} is a folder: name a file in it"),
        ([finished_run, "--out", tmp_path / "a.pt"], "does not end in .safetensors"),
        ([tmp_path / "nowhere"], "nowhere: give a run, a checkpoint or an adapter"),
        ([photo], "photo.png does not end in .safetensors"),
        ([empty], "has no intact checkpoint yet"),
        ([finished_run, "--best"], "no intact checkpoint that has a score"),
        ([odd], "the first is " + key.removeprefix("transformer.").split(".lora")[0][:20]),
    ):
        where = [] if "--out" in words else ["--out", out]
        result = run("export", *words, *where)
        assert result.exit_code == 2 and message in said(result), result.output
        assert not out.exists()
