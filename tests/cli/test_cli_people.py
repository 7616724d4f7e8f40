"""`likewise study-people`, from evaluated systems to a run that learns what raters preferred."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import TINY, run, said

from likewise.builders.benchmarks import load_benchmark
from likewise.config.evaluation_settings import STICKER_BENCH
from likewise.evaluation.manifest import MANIFEST, Row, write_manifest
from likewise.people.files import open_study
from likewise.records import RunDirectory

RATERS = Path(__file__).parents[2] / "examples" / "simulated_raters.py"


def evaluated(folder: Path, good: bool, tasks: int = 24) -> None:
    """Images of a system, whose prompts are followed if it is `good`."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(good)
    rows, scores = [], []
    for number, task in enumerate(load_benchmark(STICKER_BENCH, tasks)):
        file = f"images/{number}.png"
        task.reference.rotate(90 * good).save(folder / file)
        rows.append(Row(file=file, subject=task.subject, prompt=task.prompt, task=task.id))
        prompt, identity = 0.2 + 0.6 * good + 0.1 * rng.normal(), 0.5 + 0.1 * rng.normal()
        labels = {"task": task.id, "subject": task.subject, "kind": task.kind}
        scores.append({"file": file, "prompt": task.prompt, **labels, "reward/prompt": prompt,
                       "reward/identity": identity, "evaluator/prompt": prompt,
                       "evaluator/identity": identity})  # fmt: skip
    write_manifest(folder / MANIFEST, rows)
    pq.write_table(pa.Table.from_pylist(scores), folder / "scores.parquet")


@pytest.fixture(scope="module")
def study(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run's images before and after training, rated to the end by simulated raters."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "run").mkdir()
    shutil.copy(finished_run / "recipe.yaml", folder / "run")
    drawn = folder / "run" / "evaluation" / "bench"
    evaluated(drawn / "before", good=False)
    evaluated(drawn / "after", good=True)
    result = run("study-people", "create", folder / "run", f"old={drawn / 'before'}", "--pairs",
                 "24", "--raters-per-pair", "4", "--out", folder / "study", "--seed", "2",
                 "--questions", "prompt,overall")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "24 pairs, each for 4 raters" in said(result)
    assert re.search(r"60:40 with 80 % power: \d+ pairs × 4 raters", said(result))
    assert runpy.run_path(str(RATERS))["rate"](folder / "study") == 4
    return folder / "study"


def test_a_study_is_created_rated_and_reported(study: Path) -> None:
    assert open_study(study).settings.systems == ["run", "old"]
    result = run("study-people", "report", study)
    assert result.exit_code == 0, result.output
    share = re.search(r"prompt: run wins (\d+) % against old \[(\d+), (\d+)\]", said(result))
    assert share and int(share[2]) > 50
    assert "192 of 192 votes" in said(result)
    for name in ("results.json", "votes.csv", "report.html"):
        assert (study / "report" / name).stat().st_size > 0


def test_what_raters_prefer_is_a_reward(study: Path, forget_module: None, monkeypatch) -> None:
    result = run("study-people", "export", study)
    assert result.exit_code == 0, result.output
    assert re.search(r"fitted: reward/prompt \+\S+, reward/identity \S+; right on", said(result))
    monkeypatch.chdir(study / "preferences")
    reward = "rewards.people={kind: function, target: 'preference:score', side: prompt}"
    result = run("train", *TINY, reward, "--run-dir", study / "trained")
    assert result.exit_code == 0, result.output
    trained = RunDirectory.open(study / "trained")
    table = trained.read_rewards()
    fitted = json.loads((study / "preferences" / "preference.json").read_text())["weights"]
    for row in table.to_pylist():
        wanted = sum(weight * row[f"reward/{name}"] for name, weight in fitted.items())
        assert row["reward/people"] == pytest.approx(wanted, rel=1e-4)
    assert trained.read_metrics()[-1]["reward/people/missing"] == 0


@pytest.fixture
def forget_module() -> Iterator[None]:
    """Another test may have a module of the same name, or none."""
    path = list(sys.path)
    sys.modules.pop("preference", None)
    yield
    sys.path[:] = path
    sys.modules.pop("preference", None)


def test_wrong_systems_are_one_message(tmp_path: Path) -> None:
    result = run("study-people", "create", tmp_path, tmp_path, "--out", tmp_path / "s")
    assert result.exit_code == 2 and "has no images" in said(result)
    result = run("study-people", "report", tmp_path)
    assert result.exit_code == 2 and "is not a human study" in said(result)
