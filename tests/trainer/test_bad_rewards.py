"""Rewards that fail: their images are missing, never 0, and a run without credit gives up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch

import likewise.api.training
from likewise.api import resume, train
from likewise.config import Recipe
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RunDirectory
from likewise.trainer.checks import TrainingError

SECTIONS = [
    *({"objective": section} for section in runs.OBJECTIVES.values()),
    *({"optimizer": {"gradients": section}} for section in runs.GRADIENTS.values()),
]
IDS = [*runs.OBJECTIVES, *runs.GRADIENTS]


def recipe(
    model: Path, scorer: str, iterations: int = 1, patience: int = 3, **changes: Any
) -> Recipe:
    """A sound reward, and the one that is named `scorer`; micro-batches are groups."""
    return runs.tiny_recipe(
        model,
        rewards={
            "scorer": runs.function(scorer, "prompt"),
            "detail": runs.function("detail", "identity"),
        },
        **{
            "rollout": {"micro_batch": 4},
            "run": {"iterations": iterations, "patience": patience},
            **changes,
        },
    )


def check_table(run: RunDirectory, iteration: int, missing: list[int]) -> dict[str, list[Any]]:
    """docs/method.md §2 for these samples of two groups of four; returns the table's columns."""
    table = run.read_rewards(iteration).to_pydict()
    row = next(row for row in run.read_metrics() if row["iteration"] == iteration)
    known = np.array([number not in missing for number in range(8)])

    assert [number for number in range(8) if table["reward/scorer"][number] is None] == missing
    assert None not in table["reward/detail"]  # what is known stays known
    assert table["complete"] == known.tolist()
    assert row["reward/scorer/missing"] == row["incomplete"] == len(missing)
    assert row["reward/detail/missing"] == 0

    for name in ("scorer", "detail"):
        values = np.array([np.nan if v is None else v for v in table[f"reward/{name}"]])
        wanted = np.zeros(8)
        for group in (slice(0, 4), slice(4, 8)):
            inside = np.flatnonzero(known[group]) + group.start
            if len(inside) >= 2:
                own = values[inside]
                spread = own.std(ddof=1)
                wanted[inside] = (own - own.mean()) / spread if spread > 1e-6 else 0
        assert table[f"z/{name}"] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    for name, column in table.items():
        if name.startswith(("advantage/", "shaping")):
            assert not np.array(column)[~known].any()
    scored = np.array([v for v in table["reward/scorer"] if v is not None])
    if len(scored):
        assert row["reward/scorer/mean"] == pytest.approx(scored.mean(), rel=1e-5)
        assert row["reward/scorer/min"] == pytest.approx(scored.min())
    else:
        assert row["reward/scorer/mean"] is row["reward/scorer/min"] is None
    return table


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_missing_values_leave_their_groups(
    tiny_model: Path, tmp_path: Path, section: dict[str, Any]
) -> None:
    """NaN, infinity and None: two of each group of four are left, and only they get credit."""
    run = train(recipe(tiny_model, "nan_for_some", iterations=2, **section), tmp_path / "run").run
    for iteration in (1, 2):
        table = check_table(run, iteration, missing=[0, 3, 4, 7])
        assert any(any(table[name]) for name in table if name.startswith("advantage/"))


def test_a_sample_whose_gains_are_missing_is_left_out(tiny_model: Path, tmp_path: Path) -> None:
    """The scorer knows every sample, but not the first image of a smaller call: of the fork."""
    section = {"credit": runs.GAINS, "rollout": {"micro_batch": 8, "trained": runs.WINDOW}}
    run = train(recipe(tiny_model, "needs_many", **section), tmp_path / "run").run
    table, (row,) = run.read_rewards(1).to_pydict(), run.read_metrics()
    first, second = (f"gain/scorer/step_{t:02d}" for t in (0, 1))
    assert None not in table["reward/scorer"] and row["reward/scorer/missing"] == 0
    assert [value is None for value in table[first]] == [True] * 4 + [False] * 4
    assert None not in table[second] and None not in table["gain/detail/step_00"]
    assert table["complete"] == [False] * 4 + [True] * 4 and row["incomplete"] == 4
    for t in (0, 1):
        assert not any(table[f"advantage/step_{t:02d}"][:4])
        assert all(table[f"advantage/step_{t:02d}"][4:])
        known = np.array(table[f"gain/scorer/step_{t:02d}"][4:])
        assert row[f"gain/scorer/step_{t:02d}/mean"] == pytest.approx(known.mean(), rel=1e-4)
        assert row[f"gain/scorer/step_{t:02d}/std"] == pytest.approx(known.std(ddof=1), rel=1e-4)


def test_a_call_that_fails_costs_its_images(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(recipe(tiny_model, "raises_for_some"), tmp_path / "run").run
    table = check_table(run, 1, missing=[0, 1, 2, 3])
    assert any(table["z/scorer"][4:])
    warning = "reward 'scorer' failed in iteration 1: TimeoutError: the scorer did not answer"
    assert warning in " ".join(capsys.readouterr().out.split())


def test_a_failure_in_one_process_of_two(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    """Process 1 draws samples 4 to 7; shares of micro-batches of 3 do not matter."""
    bad = recipe(tiny_model, "raises_elsewhere", iterations=2, rollout={"micro_batch": 3})
    assert launches.run(tmp_path / "run", bad, forks=2)["code"] == 0
    for iteration in (1, 2):
        check_table(RunDirectory.open(tmp_path / "run"), iteration, missing=[4, 5, 6, 7])


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        ("always_raises", "KeyError: 'no such scorer'"),
        ("wrong_shape", "returned shape [1] for 4 images"),
        ("wrong_rank", "returned shape [4, 1] for 4 images"),
        ("words", "could not convert string to float: 'good'"),
        ("nothing", "returned shape [] for 4 images"),
    ],
)
def test_giving_up_names_the_reward_and_the_reason(
    tiny_model: Path, tmp_path: Path, scorer: str, reason: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        train(recipe(tiny_model, scorer, iterations=3, patience=1), tmp_path / "run")
    message = str(caught.value)
    assert "nothing was learned in 1 iterations in a row (run.patience = 1)" in message
    assert "scorer: " in message
    assert reason in message


def test_a_reward_without_any_value_is_named_at_once(tiny_model: Path, tmp_path: Path) -> None:
    """It does not fail, so nothing else would say why nothing is learned."""
    with pytest.raises(TrainingError, match="scorer: missing for every image"):
        train(recipe(tiny_model, "knows_nothing", iterations=4), tmp_path / "run", quiet=True)
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("reward 'scorer' is missing for every image of iteration 1") == 1
    assert "of iteration 2" not in log  # once is enough


def test_patience_counts_iterations_in_a_row(tiny_model: Path, tmp_path: Path) -> None:
    """Works for iterations 1 and 2; 3 is forgiven, 4 is too much."""
    late = recipe(tiny_model, "raises_later", iterations=9, patience=2)
    with pytest.raises(TrainingError, match="scorer: TimeoutError: the scorer did not answer"):
        train(late, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    assert [row["iteration"] for row in run.read_metrics()] == [1, 2, 3, 4]
    check_table(run, 2, missing=[])
    check_table(run, 3, missing=list(range(8)))
    check_table(run, 4, missing=list(range(8)))


def test_giving_up_loses_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """Everything that was learned is in a checkpoint, from which a mended run goes on."""
    late = recipe(tiny_model, "raises_later", iterations=9, patience=2)
    with pytest.raises(TrainingError):
        train(late, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    newest = CheckpointStore(run.checkpoints, 1).newest()
    assert newest is not None and newest.iteration == 4
    with pytest.raises(TrainingError, match="in 2 iterations in a row"):
        resume(run.path)
    assert [row["iteration"] for row in run.read_metrics()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_iterations_without_credit_teach_nothing(
    tiny_model: Path, tmp_path: Path, section: dict[str, Any]
) -> None:
    """Not even by Adam's momentum or weight decay; regularisers apart, which need no credit."""
    without = {"kl": 0.0, "kl_old": 0.0, "norm_guard": 0.0, "old": {"kind": "on-policy"}}
    objective = section.get("objective", {})
    objective = {key: without.get(key, value) for key, value in objective.items()}
    run_settings = {"iterations": 3, "checkpoints": {"every": 1}}
    changes = {**section, "objective": objective, "run": run_settings}
    late = recipe(tiny_model, "raises_later", **changes)
    run = train(late, tmp_path / "run").run
    before, after = (
        runs.checkpoint_tensors(run.checkpoints / f"iteration-00000{iteration}")
        for iteration in (2, 3)
    )
    adapter = [name for name in before if name.startswith("adapter/")]
    assert adapter
    assert [name for name in adapter if not torch.equal(before[name], after[name])] == []


def test_a_constant_reward_teaches_nothing_and_is_counted(tiny_model: Path, tmp_path: Path) -> None:
    run = train(recipe(tiny_model, "constant"), tmp_path / "run").run
    table = check_table(run, 1, missing=[])
    assert table["z/scorer"] == [0] * 8
    assert any(table["z/detail"])
    (row,) = run.read_metrics()
    assert (row["reward/scorer/flat_groups"], row["reward/detail/flat_groups"]) == (2, 0)
    assert row["reward/scorer/mean"] == pytest.approx(0.7)
    assert row["correlation"] is None


def test_metrics_hold_no_nan(tiny_model: Path, tmp_path: Path) -> None:
    """JSON has none: what is unknown is null, even where everything is."""
    run = train(recipe(tiny_model, "always_raises"), tmp_path / "run").run
    text = (run.path / "metrics.jsonl").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in metrics.jsonl")

    (row,) = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert row["reward/scorer/mean"] is row["correlation"] is row["conflict_rate"] is None
    assert row["update/loss"] == row["update/grad_norm"] == 0


def test_a_replay_that_differs_is_an_error(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout in the model: rollout and update would compute different things."""
    build = likewise.api.training.build_parts

    def with_dropout(*arguments: Any) -> Any:
        parts = build(*arguments)
        dropout = torch.nn.Dropout(0.1)  # modules start in training mode
        parts.policy.denoiser.x_embedder.register_forward_hook(
            lambda module, inputs, output: dropout(output)
        )
        return dataclasses.replace(parts)

    monkeypatch.setattr(likewise.api.training, "build_parts", with_dropout)
    with pytest.raises(TrainingError, match=r"ratio_tolerance.*dropout"):
        looked_at = {"evaluation": {"every": 1, "tasks": 1}}
        train(runs.tiny_recipe(tiny_model, run=looked_at), tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    assert run.read_metrics() == []  # before anything was drawn or learned
    assert CheckpointStore(run.checkpoints, 1).newest() is None
