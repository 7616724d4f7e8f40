"""Time weights that a run measures again from its own samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import snapshot, tiny_recipe

from likewise.api import resume, train
from likewise.config.credit_rules import Measured
from likewise.config.recipe import Recipe
from likewise.rollout.scoring import Scores
from likewise.rollout.steps import StepPlan
from likewise.trainer.timing import TIMING, Timing

WEIGHTS = {
    "kind": "measured",
    "prompt": [1.0, 1.0, 1.0, 0.0],
    "identity": [1.0, 1.0, 1.0, 0.0],
    "refresh": 3,
}
ROLLOUT = {
    "transition": "dance-sde",
    "deterministic_tail": 1,
    "trained": {"kind": "window", "size": 1, "order": "forward"},
}


def recipe(rollout: Any = None, model: Path | str = "nano-kontext", **changes: Any) -> Recipe:
    sections = {"rollout": {**ROLLOUT, **(rollout or {})}, "credit": {"time_weights": WEIGHTS}}
    return tiny_recipe(model, **{**sections, **changes})


def scores(prompt: float, identity: float) -> Scores:
    """Two groups of four; in both, rewards are ± so much around the group's mean."""
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 6.0, 4.0, 6.0, 4.0])
    values = torch.stack([prompt * signs, identity * signs])
    return Scores(values, torch.ones(2, 8, dtype=torch.bool), failures={})


def shares(timing: Timing) -> tuple[list[float], list[float]]:
    assert isinstance(timing.rule, Measured)
    return timing.rule.prompt, timing.rule.identity


def test_shares_follow_from_iterations_since_the_last_refresh() -> None:
    timing = Timing(recipe())
    differ = [(2.0, 1.0), (1.0, 1.0), (1.0, 2.0), (1.0, 1.0)]  # standard deviations, about
    for iteration, spread in enumerate(differ[:2], 1):
        timing.add(iteration, StepPlan((iteration - 1,), (iteration - 1,)), scores(*spread))
        assert shares(timing) == (WEIGHTS["prompt"], WEIGHTS["identity"])
    timing.add(3, StepPlan((2,), (2,)), scores(*differ[2]))
    prompt, identity = shares(timing)
    assert prompt == pytest.approx([4 / 6, 1 / 6, 1 / 6, 0])
    assert identity == pytest.approx([1 / 6, 1 / 6, 4 / 6, 0])
    timing.add(4, StepPlan((0,), (0,)), scores(*differ[3]))
    assert shares(timing) == (prompt, identity) and len(timing.seen) == 1


def test_a_reward_that_differs_nowhere_keeps_the_shares() -> None:
    timing = Timing(recipe())
    for iteration in (1, 2, 3):
        timing.add(iteration, StepPlan((iteration - 1,), (iteration - 1,)), scores(1.0, 0.0))
    assert shares(timing) == (WEIGHTS["prompt"], WEIGHTS["identity"]) and len(timing.seen) == 3


def test_shares_that_are_given_stay() -> None:
    fixed = {"time_weights": {**WEIGHTS, "refresh": None}}
    timing = Timing(recipe(credit=fixed))
    timing.add(1, StepPlan((0,), (0,)), scores(1.0, 2.0))
    assert timing.seen == []


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"trained": {"kind": "all"}}, "kind window with order forward"),
        ({"trained": {"kind": "window", "size": 1, "order": "random"}}, "kind window with order"),
        ({"trained": {"kind": "window", "size": 1, "order": "forward", "every": 2}}, "in 6 iter"),
        ({"shared_noise": False}, "first noise too"),
    ],
)
def test_rollouts_that_cannot_tell_steps_apart_are_refused(
    rollout: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"time_weights\.refresh .*{message}"):
        recipe(rollout)


def test_finished_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"time_weights\.refresh .*objective nft.*leave it out"):
        recipe(objective={"kind": "nft"})


def test_a_checkpoint_without_shares_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no {TIMING}.*or start a new run"):
        Timing(recipe()).read(tmp_path)


def test_a_run_weighs_by_what_it_measured_and_resumes(tiny_model: Path, tmp_path: Path) -> None:
    own = recipe(
        model=tiny_model,
        run={"iterations": 8, "checkpoints": {"every": 1, "keep": 8}},
    )
    whole = train(own, tmp_path / "whole", quiet=True).run
    weights = [
        {key: value for key, value in row.items() if key.startswith("weight/red")}
        for row in whole.read_metrics()
    ]
    assert set(weights[0].values()) == {0.5}  # as given: both profiles alike
    assert weights[3] == pytest.approx(
        weights_of(whole.checkpoints / "iteration-000003", 0), abs=1e-6
    )
    assert set(weights[3].values()) != {0.5}

    before = snapshot(whole.path)
    for number in (6, 7, 8):  # as if it had been killed after iteration 5
        shutil.rmtree(whole.checkpoints / f"iteration-{number:06d}")
    assert resume(whole.path, quiet=True).iteration == 8
    assert snapshot(whole.path) == before


def weights_of(folder: Path, step: int) -> dict[str, float]:
    """The prompt's weight at a step, as the checkpoint's shares say."""
    content = json.loads((folder / TIMING).read_text())
    p, i = (content[side][step] / sum(content[side]) for side in ("prompt", "identity"))
    return {f"weight/red/step_{step:02d}": p / (p + i)}
