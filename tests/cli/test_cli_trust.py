"""Reading a run never imports code that its recipe names, unless it is trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from running import run, said

from likewise.config import load_recipe
from likewise.config.code import imported_by, sent_by
from likewise.records import RunDirectory

MARK = "imported"
SEGMENTED = "rewards.identity.segment=true"
CODE = {
    "rewards.mine.target": [
        "rewards.mine={kind: function, target: 'stranger:score', side: prompt}"
    ],
    "rewards.identity.segmenter": [SEGMENTED, "rewards.identity.segmenter=stranger:masks"],
    "evaluators.mine.target": [
        "evaluators={mine: {kind: function, target: 'stranger:score', side: prompt}}"
    ],
    "rewards.far.token_env": [
        "rewards.far={kind: remote, side: prompt, url: 'http://127.0.0.1:9', token_env: STRANGER}"
    ],
    "policy.target": ["policy={kind: custom, target: 'stranger:Policy', model: nano-kontext}"],
}

NAMES = dict.fromkeys(CODE, "stranger:") | {"rewards.far.token_env": "$STRANGER"}


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory holds a module that leaves a mark when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = f"open({MARK!r}, 'w').close()\nscore = masks = Policy = print\n"
    (tmp_path / "stranger.py").write_text(words)
    Image.new("RGB", (64, 64)).save("photo.png")


def a_run(folder: Path, overrides: list[str]) -> Path:
    """A run directory of such a recipe, without checkpoints."""
    recipe = load_recipe("stickers", overrides)
    RunDirectory.create(folder, recipe, {})
    return folder


def commands(folder: Path) -> dict[str, list[str | Path]]:
    return {
        "evaluate": ["evaluate", folder],
        "attribute": ["attribute", folder],
        "generate": ["generate", "--adapter", folder, "--reference", "photo.png", "--prompt", "a"],
        "export": ["export", folder],
    }


@pytest.mark.parametrize("field", CODE)
@pytest.mark.parametrize("command", ["evaluate", "attribute", "generate", "export"])
def test_code_is_named_and_not_imported(tmp_path: Path, command: str, field: str) -> None:
    words = commands(a_run(tmp_path / "run", CODE[field]))[command]
    result = run(*words)
    builds_it = field.startswith("policy") or command in ("evaluate", "attribute")
    message = f"{field} of its recipe names {NAMES[field]}" if builds_it else "no intact checkpoint"
    assert result.exit_code == 2 and message in said(result), result.output
    assert ("--trust-code" in said(result)) == builds_it
    trusted = run(*words, "--trust-code")
    assert "no intact checkpoint" in said(trusted), trusted.output  # one step further
    assert not Path(MARK).exists()


@pytest.mark.parametrize("field", CODE)
def test_a_report_imports_nothing(tmp_path: Path, field: str) -> None:
    result = run("report", a_run(tmp_path / "run", CODE[field]), "--out", tmp_path / "r.html")
    assert not Path(MARK).exists(), result.output


def test_what_needs_trust_is_listed_by_field() -> None:
    assert imported_by(load_recipe("stickers")) == sent_by(load_recipe("stickers")) == {}
    for field, overrides in CODE.items():
        recipe = load_recipe("stickers", overrides)
        assert list(imported_by(recipe) | sent_by(recipe)) == [field]


def test_code_of_a_named_recipe_is_trusted(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    (override,) = CODE["policy.target"]
    recipe.write_text(f"extends: stickers\n{override.replace('=', ': ', 1)}\n")
    words = ["generate", "--recipe", recipe, "--reference", "photo.png", "--prompt", "a duck"]
    assert "not a subclass of PipelinePolicy" in said(run(*words))
    assert Path(MARK).exists()
