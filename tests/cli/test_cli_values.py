"""Plain values that fit nothing are one line of error, whatever they are given for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from running import TINY, run, said

from likewise import assets

LONG = "x" * 300  # more than a file system takes
PHOTO = Path(__file__).parents[2] / "examples" / "penguin.png"
DRAW = ["generate", "--reference", PHOTO, "--prompt", "a penguin"]


@pytest.mark.parametrize("value", [LONG, f"{LONG}/x", "a\0b"])
@pytest.mark.parametrize(
    "words",
    [
        ["train", "{}"],
        ["train", "stickers", "seed=1", "--run-dir", "{}"],
        ["train", "--resume", "{}"],
        ["train", "stickers", "--dry-run", "data.kind=folder", "data.path={}"],
        ["train", "stickers", "--dry-run", "policy.model={}"],
        ["generate", "--reference", "{}", "--prompt", "a"],
        ["generate", "--reference", PHOTO, "--prompt", "{}\0"],
        [*DRAW, "--out", "{}.png"],
        [*DRAW, "--adapter", "{}"],
        [*DRAW, "--recipe", "{}"],
        ["export", "{}"],
        ["evaluate", "{}"],
        ["evaluate", "real", "--benchmark", "{}"],
        ["attribute", "{}"],
        ["report", "{}"],
        ["recipes", "{}"],
        ["data", "check", "{}"],
        ["data", "check", "{}", "--kind", "folder"],
        ["compare", "{}"],
    ],
    ids=lambda words: " ".join(map(str, words[:5])).replace(str(PHOTO), "photo"),
)
def test_names_that_no_file_can_have(words: list[str | Path], value: str, tmp_path: Path) -> None:
    filled = [word.format(value) if isinstance(word, str) else word for word in words]
    result = run(*filled)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("device", ["cudda", "cuda:99", "meta"])
@pytest.mark.parametrize(
    "words", [DRAW, ["export", "{run}"], ["evaluate", "{run}"], ["attribute", "{run}"]]
)
def test_devices_that_are_not_here(
    words: list[str | Path], device: str, finished_run: Path, tmp_path: Path
) -> None:
    filled = [str(word).format(run=finished_run) for word in words]
    result = run(*filled, "--device", device, "--out", tmp_path / "x.safetensors")
    assert result.exit_code == 2, result.output
    assert "device" in said(result) and isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "words", [["train", *TINY, "--dry-run"], ["train", *TINY, "--run-dir", "{out}"]]
)
def test_a_model_whose_config_breaks_its_first_forward(words: list[str], tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(assets.path("nano-kontext"), model)
    config = model / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "axes_dims_rope": None}))
    result = run(*[word.format(out=out) for word in words], f"policy.model={model}")
    assert result.exit_code == 2, result.output
    assert "/model/transformer/config.json: what it describes fails" in said(result)
    assert "Traceback" not in result.output and not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["report", "{run}", "--out", "{out}.html"],
        ["evaluate", "{run}"],
        ["attribute", "{run}"],
        ["export", "{run}"],
        [*DRAW, "--adapter", "{run}"],
        ["train", "--resume", "{run}"],
        ["train", "--extend", "{run}", "run.iterations=9"],
    ],
    ids=lambda words: words[0] + words[1].strip("{}"),
)
def test_a_run_with_a_setting_that_is_refused_by_now(
    words: list[str | Path], finished_run: Path, tmp_path: Path
) -> None:
    """File, field and remedy in one line; what was said when it was accepted does not matter."""
    folder = tmp_path / "old"
    shutil.copytree(finished_run, folder)
    recipe = folder / "recipe.yaml"
    text = recipe.read_text("utf-8")
    changed = text.replace("negative_prompt: ''", "negative_prompt: blurry")
    assert changed != text
    recipe.write_text(changed, "utf-8")
    filled = [str(word).format(run=folder, out=tmp_path / "out") for word in words]
    result = run(*filled)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1 and str(recipe) in lines[0]
    assert "policy.negative_prompt has no effect" in lines[0] and "leave it out" in lines[0]
