"""Results of a study from tables with known answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.config import Study
from likewise.printable import markdown
from likewise.records import CheckpointStore, RunDirectory
from likewise.study.results import compute_results
from likewise.study.tables import results_markdown
from likewise.study.units import BASE_UNIT, Plan, Unit

SUBJECTS = ("cat", "dog", "kite")
TASKS = [(subject, kind) for subject in SUBJECTS for kind in ("scene", "layout")]
# Arm → seed → (evaluator/identity, evaluator/prompt) of every image; `ours` gains by seed.
MEANS: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "ours": {0: (0.6, 0.7), 1: (0.7, 0.9)},
    "naive": {0: (0.5, 0.7), 1: (0.4, 0.9)},
    "worst": {0: (0.3, 0.2)},
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    arms: dict[str, Any] = {
        "ours": {"recipe": "stickers", "label": "Ours | the best"},
        "naive": {"recipe": "stickers-naive"},
        "worst": {"recipe": "stickers-gdpo"},
    }
    content = {"name": "known", "overrides": ["run.iterations=3"], "seeds": [0, 1], "arms": arms}
    content |= {"baseline": "naive", "contrasts": [("ours", "worst")]}
    return Plan(Study.model_validate(content), tmp_path)


def write_scores(plan: Plan, unit: Unit, identity: float, prompt: float) -> None:
    """Six images around the means: dogs are 0.06 better and cats 0.06 worse in identity."""
    offsets = {"cat": -0.06, "dog": 0.06, "kite": 0.0}
    table = pa.table(
        {
            "task": [f"{subject}-{kind}" for subject, kind in TASKS],
            "number": [0] * len(TASKS),
            "subject": [subject for subject, _ in TASKS],
            "category": ["thing" if subject == "kite" else "animal" for subject, _ in TASKS],
            "kind": [kind for _, kind in TASKS],
            "complexity": [1 if kind == "scene" else 2 for _, kind in TASKS],
            "dino/held-out": pa.array([None, *[0.5] * 5], pa.float32()),
            "dino/photos": [[0.5]] * len(TASKS),
            "reward/prompt": [prompt] * len(TASKS),
            "evaluator/identity": [identity + offsets[subject] for subject, _ in TASKS],
            "evaluator/prompt": [prompt] * len(TASKS),
        }
    )
    plan.scores(unit).parent.mkdir(parents=True)
    pq.write_table(table, plan.scores(unit))
    (plan.evaluation(unit) / "summary.json").write_text("{}")


def write_run(plan: Plan, unit: Unit, seconds: float) -> None:
    run = RunDirectory.create(plan.run(unit), plan.recipe(unit), {"python": "3", "command": ["x"]})
    for iteration in (1, 2, 3):
        row = {"seconds/update": seconds, "seconds/total": 2 * seconds, "peak_memory_mb": 100.0}
        run.append_timings({"iteration": iteration, **row})
    store = CheckpointStore(run.checkpoints, 1)
    store.save(3, lambda folder: (folder / "adapter").write_text("trained"))


def fill(plan: Plan) -> None:
    for arm, seeds in MEANS.items():
        for seed, (identity, prompt) in seeds.items():
            write_run(plan, Unit("train", arm, seed), 3.0 if arm == "ours" else 2.0)
            write_scores(plan, Unit("evaluate", arm, seed), identity, prompt)
    write_scores(plan, BASE_UNIT, 0.4, 0.5)


@pytest.fixture
def results(plan: Plan) -> dict[str, Any]:
    fill(plan)
    found = compute_results(plan)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_head(results: dict[str, Any]) -> None:
    assert results["study"] == "known" and results["baseline"] == "naive"
    first = ["evaluator/identity", "evaluator/prompt", "reward/prompt"]
    assert results["metrics"] == [*first, "dino/held-out"]
    assert results["missing"] == ["train worst seed 1", "evaluate worst seed 1"]
    assert results["environment"] == {"python": "3"}
    assert len(results["commands"]) == 13
    assert results["commands"][1].startswith("likewise train stickers --run-dir seed-0 run.iterat")
    assert results["reference"] == pytest.approx([0.4, 0.5])


def test_means_are_over_seeds_and_their_intervals_over_subjects(results: dict[str, Any]) -> None:
    ours = results["arms"]["ours"]
    identity = ours["metrics"]["evaluator/identity"]
    assert ours["seeds"] == [0, 1] and results["arms"]["worst"]["seeds"] == [0]
    assert identity["mean"] == pytest.approx(0.65)
    assert identity["per_seed"] == pytest.approx([0.6, 0.7])
    assert (identity["low"], identity["high"]) == pytest.approx((0.59, 0.71))  # the worst and best
    assert identity["n"] == 6  # tasks
    assert ours["metrics"]["evaluator/prompt"]["low"] == pytest.approx(
        0.8
    )  # subjects do not differ
    assert ours["metrics"]["dino/held-out"]["n"] == 5  # one is missing, not 0
    assert results["base"]["evaluator/prompt"]["mean"] == pytest.approx(0.5)


def test_differences_are_paired(results: dict[str, Any]) -> None:
    versus = results["arms"]["ours"]["versus"]["evaluator/identity"]
    assert versus["mean"] == pytest.approx(0.2)  # 0.1 and 0.3
    assert versus["over_subjects"] == pytest.approx([0.2, 0.2])  # every subject gains the same
    # Student, 1 degree of freedom: 0.2 ± 12.706 · sem, sem = 0.1
    assert versus["over_seeds"] == pytest.approx([0.2 - 1.2706, 0.2 + 1.2706], abs=1e-3)
    assert versus["p_subjects"] == 2 / 2**3 and versus["p_seeds"] == 2 / 2**2
    assert (versus["n_seeds"], versus["n_subjects"]) == (2, 3)
    assert results["arms"]["naive"]["versus"] == {}


def test_an_arm_is_compared_over_the_seeds_that_both_have(results: dict[str, Any]) -> None:
    versus = results["arms"]["worst"]["versus"]["evaluator/prompt"]
    assert versus["mean"] == pytest.approx(-0.5)  # seed 0 alone: 0.2 against 0.7
    assert versus["n_seeds"] == 1 and versus["over_seeds"] == [None, None]


def test_further_pairs_are_compared_like_the_baseline(results: dict[str, Any]) -> None:
    (pair,) = results["contrasts"]
    assert (pair["arm"], pair["than"], pair["labels"][1]) == ("ours", "worst", "worst")
    assert pair["versus"]["evaluator/prompt"]["mean"] == pytest.approx(0.5)  # seed 0 alone
    assert f"| {markdown('Ours | the best')} − worst | +0.5000 |" in results_markdown(results)


def test_hypervolume_is_above_the_untrained_model(
    results: dict[str, Any],
) -> None:
    areas = {arm: found["hypervolume"] for arm, found in results["arms"].items()}
    assert areas["ours"]["per_seed"] == pytest.approx([0.2 * 0.2, 0.3 * 0.4])
    assert areas["ours"]["mean"] == pytest.approx(0.08)
    assert areas["naive"]["per_seed"] == pytest.approx([0.1 * 0.2, 0.0])
    assert areas["worst"]["per_seed"] == [0.0]
    front = {arm: found["pareto"] for arm, found in results["arms"].items()}
    assert front == {"ours": True, "naive": False, "worst": False}


def test_robustness_counts_tasks(results: dict[str, Any]) -> None:
    cells = {
        (cell["category"], cell["complexity"]): (cell["n"], cell["evaluator/identity"]["mean"])
        for cell in results["arms"]["ours"]["robustness"]
    }
    assert cells == {
        ("animal", 1): (2, pytest.approx(0.65)),
        ("animal", 2): (2, pytest.approx(0.65)),
        ("thing", 1): (1, pytest.approx(0.65)),
        ("thing", 2): (1, pytest.approx(0.65)),
    }
    kinds = {cell["kind"]: cell["n"] for cell in results["arms"]["ours"]["by_kind"]}
    assert kinds == {"scene": 3, "layout": 3}


def test_overhead_is_relative_to_the_baseline(results: dict[str, Any]) -> None:
    assert results["arms"]["ours"]["overhead"] == {
        "seconds": {"update": 3.0, "total": 6.0},
        "relative": {"update": 1.5, "total": 1.5},
        "peak_memory_mb": 100.0,
        "relative_memory": 1.0,
    }


def test_texts_of_a_study_are_no_markup(results: dict[str, Any]) -> None:
    evil = "<img src=x> | *b* \x1b[31m"
    text = results_markdown({**results, "study": evil, "description": f"# {evil}"})
    shown = r"&lt;img src=x&gt; \| \*b\* \\x1b\[31m"
    assert f"# {shown}\n" in text and rf"\# {shown}" in text
    assert "<img" not in text and "\x1b" not in text


def test_tables_show_the_numbers_and_what_is_missing(results: dict[str, Any]) -> None:
    text = results_markdown(results)
    for part in (
        "| untrained | – | 0.400 [0.340 … 0.460] |",
        "| Ours \\| the best | 2 | 0.650 [0.590 … 0.710] | 0.800",
        "| evaluator/identity | Ours \\| the best | +0.2000 | +0.2000 … +0.2000 | 0.2500 | -1.07",
        "| evaluator/prompt | worst | -0.5000 | -0.5000 … -0.5000 | 0.2500 | – | 1.0000 | 1 |",
        "| Ours \\| the best | 80.00 [",
        "| Ours \\| the best | 1 | 0.70000000 | 0.90000000 |",
        "| animal | 1 | 2 | 0.650 | 0.450 | 0.300 |",
        "| Ours \\| the best | 3 (1.50) | 6 (1.50) | 100 (1.00) |",
        "- evaluate worst seed 1",
    ):
        assert part in text
    widths = {
        block: {line.count("|") for line in block.splitlines()}
        for block in text.replace(r"\|", "/").split("\n\n")
        if block.startswith("|")
    }
    assert widths and all(len(counts) == 1 for counts in widths.values())


def test_nothing_finished_is_no_error(plan: Plan) -> None:
    results = compute_results(plan)
    assert results["arms"] == {} and results["base"] == {} and results["metrics"] == []
    assert len(results["missing"]) == len(plan.units)
    assert "## Missing" in results_markdown(results)


def test_without_baseline_or_untrained_model_means_remain(plan: Plan) -> None:
    write_run(plan, Unit("train", "ours", 0), 1.0)
    write_scores(plan, Unit("evaluate", "ours", 0), 0.5, 0.5)
    ours = compute_results(plan)["arms"]["ours"]
    assert ours["metrics"]["evaluator/identity"]["mean"] == pytest.approx(0.5)
    assert ours["versus"] == {} and ours["hypervolume"]["mean"] is None
    assert ours["pareto"] and ours["overhead"]["relative"] == {}


def test_aims_of_the_study_make_the_front(plan: Plan) -> None:
    fill(plan)
    evaluation = plan.study.evaluation.model_copy(
        update={"aims": ("reward/prompt", "evaluator/prompt")}
    )
    other = Plan(plan.study.model_copy(update={"evaluation": evaluation}), plan.folder)
    found = compute_results(other)
    assert found["aims"] == ["reward/prompt", "evaluator/prompt"]
    assert found["reference"] == pytest.approx([0.5, 0.5])
    # The reward is the evaluator's value here, so the arms of both means 0.8 are on the front.
    assert [arm["pareto"] for arm in found["arms"].values()] == [True, True, False]
    assert "Area above the untrained model in the plane of reward/prompt" in results_markdown(found)


def test_without_the_aims_it_is_said_that_there_is_no_front(plan: Plan) -> None:
    fill(plan)
    evaluation = plan.study.evaluation.model_copy(update={"aims": ("clip-t", "evaluator/prompt")})
    other = Plan(plan.study.model_copy(update={"evaluation": evaluation}), plan.folder)
    found = compute_results(other)
    assert found["reference"] is None
    assert "No front: nothing measured clip-t. Name held-out" in results_markdown(found)


def test_images_without_scores_are_counted_by_arm(plan: Plan) -> None:
    fill(plan)
    for unit in (Unit("evaluate", "naive", 0), Unit("evaluate", "naive", 1)):
        table = pq.read_table(plan.scores(unit))
        why = pa.array(["flat", *[None] * (table.num_rows - 1)], pa.string())
        pq.write_table(table.append_column("spoilt", why), plan.scores(unit))
    found = compute_results(plan)
    assert found["spoilt"] == {"naive": "flat images: 2 (missing in all scores)"}
    assert markdown("naive") + ": flat images: 2" in results_markdown(found).replace("\\", "")


def test_arms_trained_on_the_benchmark_are_marked_everywhere(plan: Plan) -> None:
    fill(plan)
    said = "trained on 3 of the benchmark's 3 subjects (cat, dog, kite)"
    summary = plan.evaluation(Unit("evaluate", "naive", 1)) / "summary.json"
    summary.write_text(json.dumps({"trained_on": {"after": said}}))
    found = compute_results(plan)
    assert found["trained_on"] == {"naive *": said}
    text = results_markdown(found)
    assert f"{markdown('naive *')}: {markdown(said)}." in text
    assert f"| {markdown('naive *')} |" in text and "| naive |" not in text


def test_seeds_needed_come_from_paired_differences(results: dict[str, Any]) -> None:
    found = {(one["metric"], one["arm"]): one for one in results["power"]}
    # Of naive's two seeds, 0.5 and 0.4: nothing but the seed differs, √2 times as two arms would.
    naive = found["evaluator/identity", "naive"]
    assert naive["seed"] == pytest.approx(0.1, abs=1e-6)  # √2 · 0.1/√2
    assert naive["subject"] == pytest.approx(0, abs=1e-6) and naive["tasks"] == 6
    assert found["evaluator/prompt", "ours"]["needed"]["0.02"] == 2  # no spread at all
    assert ("evaluator/prompt", "worst") not in found  # one seed tells nothing
    assert "## Seeds needed" in results_markdown(results)
