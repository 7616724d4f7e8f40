"""Conflict, pressure and credit on tables with known answers, and as the trainer sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from likewise.analysis.conflict import conflicts, most_conflicted
from likewise.analysis.credit_shares import gradient_norms, linear_credit, pressure
from likewise.records import RunDirectory
from likewise.trainer.assignment import Assignment
from likewise.trainer.metrics import conflict_numbers


def a_table(z_prompt: list[float], z_identity: list[float], **columns: Any) -> pa.Table:
    count = len(z_prompt)
    usual = {"iteration": [1] * count, "prompt": ["a duck"] * count, "complete": [True] * count}
    rewards = {"reward/prompt": z_prompt, "reward/identity": z_identity}
    return pa.table(
        {**usual, **rewards, "z/prompt": z_prompt, "z/identity": z_identity, **columns},
    )


def test_quadrants_and_correlation_by_hand() -> None:
    """z are (1, 1), (1, −1), (−1, 1), (−1, −1), (2, −2); 0 counts as not positive."""
    found = conflicts(
        a_table([1, 1, -1, -1, 2], [1, -1, 1, -1, -2]), "prompt", "identity", "iteration"
    )[1]
    assert found.n == 5
    assert found.quadrants == {"++": 0.2, "+-": 0.4, "-+": 0.2, "--": 0.2}
    assert found.opposed == pytest.approx(0.6)
    # sums: Σp = 2, Σi = −2, Σpi = −4, Σp² = Σi² = 8: (−4 + 4/5) / (8 − 4/5)
    assert found.correlation == pytest.approx(-3.2 / 7.2)


def test_incomplete_images_and_flat_groups_do_not_count() -> None:
    """One flat in the prompt only still has credit at stake, but no correlation."""
    table = a_table([0, 1, 0, 0], [0, 1, 1, -1], complete=[True, False, True, True])
    found = conflicts(table, "prompt", "identity", "iteration")[1]
    assert (found.n, found.correlation, found.opposed) == (2, None, 0)
    assert found.quadrants == {"++": 0, "+-": 0, "-+": 0.5, "--": 0.5}
    assert conflicts(a_table([0.0], [0.0]), "prompt", "identity", "iteration") == {}


def test_samples_that_lack_a_reward_are_not_in_conflict() -> None:
    """A rule that trains on one reward gives credit without the other."""
    columns = {"reward/identity": [1.0, None, -1.0]}
    found = conflicts(a_table([1, 1, 1], [1, 0, -1], **columns), "prompt", "identity", "iteration")
    assert (found[1].n, found[1].opposed) == (2, 0.5)


def test_the_trainer_writes_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 60)).round(1)
    z[:, 10:20] = 0
    z[0, 20:30] = 0
    complete = rng.random(60) < 0.8
    z[:, ~complete] = 0
    tensor = torch.from_numpy(z)
    nothing = torch.zeros(60)
    whole = torch.from_numpy(complete)
    known = whole.expand(2, 60)
    credit = Assignment(whole, tensor, known, nothing, False, nothing, nothing)
    wanted = conflict_numbers({"prompt": "prompt", "identity": "identity"}, credit)
    table = a_table(z[0].tolist(), z[1].tolist(), complete=complete)
    found = conflicts(table, "prompt", "identity", "iteration")[1]
    assert found.correlation == pytest.approx(wanted["correlation"])
    assert found.opposed == pytest.approx(wanted["conflict_rate"])
    for signs, share in found.quadrants.items():
        assert share == pytest.approx(wanted[f"quadrant/{signs}"])


def test_prompts_and_kinds_by_their_conflict() -> None:
    """Perfect conflict, none, perfect harmony, and one that cannot be known."""
    table = a_table(
        [1, -1, 1, 1, -1, -1, 1, -1, 2],
        [-1, 1, 1, -1, 1, -1, 2, -2, 2],
        prompt=["worst"] * 2 + ["middle"] * 4 + ["best"] * 2 + ["alone"],
        complexity=[2] * 2 + [1] * 7,
    )
    ranked = most_conflicted(conflicts(table, "prompt", "identity", "prompt"))
    assert [label for label, _ in ranked] == ["worst", "middle", "best", "alone"]
    assert [found.n for _, found in ranked] == [2, 4, 2, 1]
    known = [found.correlation for _, found in ranked[:3]]
    assert known == pytest.approx([-1, 0, 1]) and ranked[3][1].correlation is None
    by_complexity = conflicts(table, "prompt", "identity", "complexity")
    assert {label: found.n for label, found in by_complexity.items()} == {2: 2, 1: 7}


def test_equal_correlations_are_ranked_by_opposite_signs() -> None:
    table = a_table([1, 3, -1, 1], [3, 1, 1, -1], prompt=["high", "high", "split", "split"])
    ranked = most_conflicted(conflicts(table, "prompt", "identity", "prompt"))
    assert [label for label, _ in ranked] == ["split", "high"]


def test_pressure_by_hand(tmp_path: Any) -> None:
    """Two iterations that share step 10, read back from files as a run writes them."""
    run = RunDirectory(tmp_path)
    (tmp_path / "rewards").mkdir()
    one = {"z/prompt": [1.0, -1.0], "z/identity": [2.0, -2.0], "complete": [True, True]}
    run.write_rewards(1, one | {"advantage/step_09": [1.0, -1.0], "advantage/step_10": [0.5, -0.7]})
    other = {"z/prompt": [3.0, 9.0, 0.0], "z/identity": [-3.0, 9.0, 0.0]}
    other |= {"complete": [True, False, True], "advantage/step_10": [0.3, 0.0, 0.0]}
    run.write_rewards(2, other | {"advantage/step_100": [0.3, 0.0, 0.0]})
    run.write_rewards(3, one | {"advantage/step_10": [9.0, 9.0]})  # its row was never written
    metrics = [
        {"iteration": 0},
        {"iteration": 1, "weight/prompt/step_09": 0.75, "weight/identity/step_09": 0.25}
        | {"weight/prompt/step_10": 0.5, "weight/identity/step_10": 0.5},
        {"iteration": 2, "weight/prompt/step_10": 0.5, "weight/identity/step_10": 0.5}
        | {"weight/prompt/step_100": 0.0, "weight/identity/step_100": 0.0},
    ]
    found = pressure(run.read_rewards(), metrics, ["prompt", "identity"])
    assert list(found) == [9, 10, 100]
    assert (found[9].n, found[9].advantage) == (2, 1)
    assert found[9].rewards == {"prompt": 0.75, "identity": 0.5}
    assert (found[10].n, found[10].advantage) == (3, pytest.approx(0.5))
    assert found[10].rewards == pytest.approx({"prompt": 2.5 / 3, "identity": 3.5 / 3})
    assert found[100].rewards is None and found[100].advantage == pytest.approx(0.3)


def test_pressure_of_gains_is_by_their_own_z() -> None:
    table = pa.table(
        {
            "iteration": [1, 1],
            "complete": [True, True],
            "z/prompt": [1.0, -1.0],
            "z/prompt/step_03": [0.2, 0.4],
            "advantage/step_03": [0.1, 0.2],
        }
    )
    found = pressure(table, [{"iteration": 1, "weight/prompt/step_03": 0.5}], ["prompt"])
    assert found[3].rewards == pytest.approx({"prompt": 0.15})


def test_a_run_without_iterations_has_neither(tmp_path: Any) -> None:
    empty = RunDirectory(tmp_path).read_rewards()
    assert conflicts(empty, "prompt", "identity", "prompt") == {}
    assert pressure(empty, [], ["prompt"]) == {}


def test_a_weighted_sum_is_a_line_and_a_product_is_none() -> None:
    """Step 0: A = 2p + i. Step 3: A = p·i, which no line through these four points explains."""
    p, i = [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]
    line = [2 * a + b for a, b in zip(p, i, strict=True)]
    product = [a * b for a, b in zip(p, i, strict=True)]
    names = ["prompt", "identity"]
    found = linear_credit(a_table(p, i, **{"advantage/step_00": line}), names)
    assert found.share == pytest.approx(1) and found.n == 4
    assert found.slopes == pytest.approx({"prompt": 2, "identity": 1})
    both = {"advantage/step_00": line, "advantage/step_03": product}
    found = linear_credit(a_table(p, i, **both), names)
    assert found.share == pytest.approx(20 / 24) and found.n == 8  # of 9 + 1 + 1 + 9, and 4
    assert found.slopes == pytest.approx({"prompt": 1, "identity": 0.5})
    assert linear_credit(pa.table({}), names).share is None


def test_gradients_by_the_steps_that_they_trained() -> None:
    def row(norm: float | None, *steps: int) -> dict[str, Any]:
        weights = {f"weight/{name}/step_{step:02d}": 0.5 for name in "ab" for step in steps}
        return {"update/grad_norm": norm, **weights}

    rows = [row(3, 2, 3), row(1, 0, 1), row(5, 2, 3), row(4, 2, 3), row(None, 0, 1), {"eval/a": 1}]
    assert gradient_norms(rows) == {(0, 1): 1, (2, 3): 4}
