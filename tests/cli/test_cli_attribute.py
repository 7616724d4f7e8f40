"""`likewise attribute` on a tiny run of the nano, and on the nano itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import photosets
import pytest
from running import run, said

from likewise.api import attributing
from likewise.cli.attribute import as_yaml
from likewise.config import load_recipe
from likewise.config.credit_rules import Measured

SCORERS = ["reward/prompt", "reward/identity", "evaluator/identity", "evaluator/prompt"]
FEW = ["--tasks", "3", "--resamples", "2"]


def test_a_run_is_measured_and_its_section_fits_its_recipe(
    finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    result = run("attribute", folder, *FEW, "--device", "cpu")
    assert result.exit_code == 0, result.output
    for text in ("3 tasks × 2 trajectories", "w_p TDW", "measured", "attribution.json"):
        assert text in said(result)
    numbers = json.loads((folder / "attribution.json").read_text())
    assert (numbers["model"], numbers["recipe"]) == ("nano-kontext", "stickers")
    assert (numbers["checkpoint"], numbers["num_steps"]) == (1, 3)
    assert (numbers["transition"], numbers["noise_level"]) == ("flow-sde", 0.7)
    assert (numbers["tasks"], numbers["resamples"], numbers["seed"]) == (3, 2, 0)
    assert numbers["steps"] == [0, 1]  # all that are not the tail, though the recipe has windows
    assert len(numbers["sigmas"]) == 4 and numbers["sigmas"][-1] == 0
    assert list(numbers["scorers"]) == SCORERS
    for name in SCORERS[:2]:
        profile = numbers["scorers"][name]
        assert profile["share"][2] == 0 and profile["std"] > 0
        assert all(profile["low"][t] < profile["high"][t] for t in (0, 1))
    pairs = [(delay["of"], delay["than"]) for delay in numbers["delays"]]
    assert pairs == [
        ("reward/identity", "reward/prompt"),
        ("evaluator/identity", "evaluator/prompt"),
    ]
    centres = [numbers["scorers"][name]["centre"]["mean"] for name in SCORERS[:2]]
    assert numbers["delays"][0]["mean"] == pytest.approx(centres[1] - centres[0])
    assert "than reward/prompt (95 % interval" in said(result)
    section = tmp_path / "section.yaml"
    pasted = result.output.partition("credit:")
    section.write_text("extends: stickers\nname: pasted\n" + "".join(pasted[1:]), encoding="utf-8")
    rule = load_recipe(section, ["rollout.num_steps=3"]).credit.time_weights
    expected = [round(share, 3) for share in numbers["scorers"]["reward/prompt"]["share"]]
    assert isinstance(rule, Measured) and rule.prompt == expected


def test_a_model_is_measured_by_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "extends: stickers\nname: mine\nrollout: {num_steps: 2, trained: {size: 1}}\n"
    text += "rewards: {identity: {side: prompt}}\ncredit: {time_weights: {kind: constant}}\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    result = run("attribute", "nano-kontext", "--recipe", "mine.yaml", *FEW, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "each side needs a reward that varies" in said(result)  # both are of one side
    file = Path("runs") / "evaluation" / "nano-kontext-attribution.json"
    numbers = json.loads(file.read_text())
    assert (numbers["recipe"], numbers["checkpoint"], numbers["steps"]) == ("mine", None, [0])


def test_what_cannot_be_measured_is_named(tmp_path: Path, finished_run: Path) -> None:
    for words, fragment in (
        (["nowhere"], "there is no nowhere"),
        (["real"], "real draws nothing: give a run or a model"),
        ([finished_run, "--recipe", "stickers"], "needs none"),
        ([finished_run, "--out", tmp_path], f"name a file in it, as {tmp_path}/attribution.json"),
    ):
        result = run("attribute", *words)
        assert result.exit_code == 2 and fragment in said(result), result.output


def test_the_section_has_a_line_per_side() -> None:
    section = Measured(prompt=[0.5, 0.0], identity=[0.125, 1])
    assert as_yaml(section).splitlines() == [
        "credit:",
        "  time_weights:",
        "    kind: measured",
        "    prompt: [0.5, 0.0]",
        "    identity: [0.125, 1.0]",
    ]


def test_only_what_is_credited_by_itself_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "extends: stickers\nname: mine\nrollout: {num_steps: 2, trained: {size: 1}}\nrewards:\n"
    text += "  variety: {kind: in-group-diversity, side: identity}\n"
    text += "  broken: {kind: function, side: diagnostic, target: 'broken:broken'}\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    Path("broken.py").write_text("def broken(images, tasks): raise OSError\n", encoding="utf-8")
    result = run("attribute", "nano-kontext", "--recipe", "mine.yaml", *FEW, "--device", "cpu")
    assert result.exit_code == 0, result.output
    file = Path("runs") / "evaluation" / "nano-kontext-attribution.json"
    assert list(json.loads(file.read_text())["scorers"]) == SCORERS


PHOTOS = """
extends: stickers
name: photos
data: {{kind: folder, path: {path}, held_out: null, workers: 0}}
rollout: {{num_steps: 2, trained: {{size: 1}}}}
rewards: {{identity: {{segment: false}}}}
evaluators:
  identity: {{kind: function, side: identity, target: "mine:grey"}}
  prompt: {{kind: function, side: prompt, target: "mine:unable"}}
"""
MINE = """
def grey(images, tasks):
    return [image.convert("L").getpixel((0, 0)) / 255 for image in images]

def unable(images, tasks):
    raise OSError("no such thing")
"""


def test_photos_are_measured_by_the_evaluators_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    Path("photos").mkdir()
    text = PHOTOS.format(path=photosets.folder(Path("photos")))
    Path("photos.yaml").write_text(text, encoding="utf-8")
    words = ("attribute", "nano-kontext", "--recipe", "photos.yaml", *FEW, "--device", "cpu")
    with pytest.warns(UserWarning, match="evaluator/prompt is left out: OSError: no such thing"):
        result = run(*words)
    assert result.exit_code == 0, result.output
    file = Path("runs") / "evaluation" / "nano-kontext-attribution.json"
    assert list(json.loads(file.read_text())["scorers"]) == [*SCORERS[:2], "evaluator/identity"]


def test_a_reward_that_cannot_score_ends_it_before_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attributing, "build_policy", lambda *_, **__: pytest.fail("it draws"))
    Path("photos").mkdir()
    text = PHOTOS.format(path=photosets.folder(Path("photos"))).partition("evaluators:")[0]
    Path("photos.yaml").write_text(text.replace("segment: false", "segment: true"))
    result = run("attribute", "nano-kontext", "--recipe", "photos.yaml", *FEW, "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert "reward/identity cannot be measured on these tasks, so nothing was drawn" in said(result)
