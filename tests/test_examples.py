"""What the documents show works, and is what is in the examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from likewise import load_recipe, train
from likewise.builders.rewards import REWARDS
from likewise.config import Recipe
from likewise.config.loading import shipped_recipes

ROOT = Path(__file__).parents[1]
SMALL = ["run.iterations=1", "run.processes=1", "run.evaluation.every=0", "run.trackers=[]"]
SMALL += ["rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=4"]


def test_the_documented_reward_and_recipe_are_the_examples() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", text, flags=re.DOTALL))
    assert blocks["python"] == (ROOT / "examples" / "vivid.py").read_text(encoding="utf-8")
    recipe = (ROOT / "examples" / "vivid.yaml").read_text(encoding="utf-8")
    assert recipe.endswith(blocks["yaml"])


def test_a_reward_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    outcome = train(load_recipe("examples/vivid.yaml", SMALL), tmp_path / "run", quiet=True)
    assert outcome.finished
    (row,) = outcome.run.read_metrics()
    assert 0 < row["reward/vivid/mean"] < 1
    table = outcome.run.read_rewards(1)
    assert table.column("reward/vivid").null_count == 0


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md", "docs/training.md"])
def test_documents_name_recipes_and_commands_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"likewise train ([a-z][\w-]*)(?=\s|$)", text):
        assert name in shipped_recipes(), name
    for file in re.findall(r"`((?:src|docs|tests|examples|scripts)/[\w./-]+)`", text):
        assert (ROOT / file).exists(), file


def test_the_rewards_that_documents_show_are_valid() -> None:
    text = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 4
    content = load_recipe("stickers").model_dump()
    for block in blocks:
        changes = yaml.safe_load(block)
        rewards = {**content["rewards"], **changes["rewards"]}
        run = {**content["run"], **changes.get("run", {})}
        Recipe.model_validate({**content, "rewards": rewards, "run": run})
    (table,) = re.findall(r"\| `kind` .*?\n\n", text, flags=re.DOTALL)
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)[1:]) == set(REWARDS)
