"""Advice before training: ``likewise.api.advise``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from likewise.algorithm import timeweights
from likewise.analysis.advice import Advice, Evidence, group_z
from likewise.analysis.advice import advise as weigh
from likewise.analysis.step_signal import Plan
from likewise.api.attributing import attribute, stochastic_steps
from likewise.api.targets import find_drawing
from likewise.config.credit_rules import Sars, Tdw
from likewise.config.recipe import Recipe
from likewise.config.rollout import WindowSteps
from likewise.rollout.steps import plan_steps

Json = Mapping[str, Any]
SIDES = ("prompt", "identity")
PAPER_GAMMA = 0.4


@dataclass(frozen=True)
class Advised:
    """What was found, and from what.

    Attributes:
        advice: Numbers; `analysis.advice_words` has them in words.
        recipe: Whose rewards, schedule and trained steps.
        source: File with the attribution and the groups.
    """

    advice: Advice
    recipe: Recipe
    source: Path

    def record(self) -> dict[str, object]:
        """For JSON."""
        about = {"recipe": self.recipe.name, "model": self.recipe.policy.model}
        return {**about, "source": self.source.name, **asdict(self.advice)}


def advise(
    target: str | Path,
    *,
    attribution: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    tasks: int = 48,
    resamples: int = 4,
    groups: int = 24,
    seed: int = 0,
    best: bool = False,
    device: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    trust_code: bool = False,
) -> Advised:
    """Whether rewards conflict, when each is decided, and what time weights and SARS should bring.

    Args:
        target: A run (its newest intact checkpoint counts) or a model: shipped, folder, Hub name.
        attribution: File of an earlier call, or of `attribute` with groups; nothing is drawn then.
        groups: Number of groups to draw; the other arguments are those of `attribute`.

    Raises:
        ValueError: there is no such target, the file is not of this target or holds no groups, a
            side has no reward, or a reward never varies inside a task.
        OSError: a file or a model is not there.
    """
    if attribution is None:
        measured = attribute(
            target,
            recipe=recipe,
            tasks=tasks,
            resamples=resamples,
            groups=groups,
            seed=seed,
            best=best,
            device=device,
            out=out,
            progress=progress,
            trust_code=trust_code,
        )
        own, source = measured.recipe, measured.file
        record: Json = measured.record()
    else:
        _, own = find_drawing(target, recipe, best, trust_code)
        source = Path(attribution)
        record = _read(source, own)
    return Advised(weigh(_evidence(record, own)), own, source)


def _read(file: Path, recipe: Recipe) -> Json:
    """A stored attribution that is about this recipe, and has all that advice needs.

    Raises:
        ValueError: it is not, or has not.
    """
    try:
        record = dict(json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no attribution: {error}") from error
    rollout = recipe.rollout
    wanted = {
        "model": recipe.policy.model,
        "num_steps": rollout.num_steps,
        "transition": rollout.transition,
        "noise_level": rollout.noise_level,
    }
    wrong = [
        f"{name} is {record.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if record.get(name) != value
    ]
    if wrong:
        raise ValueError(f"{file} is about something else: {'; '.join(wrong)}")
    if "moved" not in record or not record.get("groups", {}).get("subjects"):
        raise ValueError(
            f"{file} holds no groups of samples: measure with likewise advise, or with likewise "
            "attribute --groups 24"
        )
    return record


def _evidence(record: Json, recipe: Recipe) -> Evidence:
    names = {side: _rewards(record, recipe, side) for side in SIDES}
    prompt, identity = (
        float(np.mean([sum(record["scorers"][name]["share"]) for name in names[side]]))
        for side in SIDES
    )
    parts = _parts(record["moved"], [names[side] for side in SIDES])
    values = {name: _array(rows) for name, rows in record["groups"]["values"].items()}
    shares = [own.sum(0) / own.sum() if own.any() else own.sum(0) for own in parts]
    shaping, steps = recipe.credit.shaping, recipe.rollout.num_steps
    return Evidence(
        parts=parts,
        z=_z(values, [names[side] for side in SIDES], recipe.credit.std_floor),
        subjects=record["groups"]["subjects"],
        plans=_plans(recipe),
        arms=_arms(recipe, steps, shares),
        gamma=shaping.gamma if isinstance(shaping, Sars) and shaping.gamma else PAPER_GAMMA,
        sums=(prompt, identity),
    )


def _rewards(record: Json, recipe: Recipe, side: str) -> list[str]:
    """Names of the side's measured rewards.

    Raises:
        ValueError: there are none.
    """
    own = [f"reward/{name}" for name, one in recipe.credited.items() if one.side == side]
    found = [name for name in own if name in record["moved"]]
    if not found:
        raise ValueError(f"no {side} reward was measured: advice is about two sides")
    return found


def _parts(moved: Json, sides: Sequence[Sequence[str]]) -> np.ndarray:
    """[2, c, T] over the subjects that all rewards score: each reward in units of what all steps
    move of it, averaged over a side's rewards."""
    shared = set.intersection(*(set(moved[name]) for names in sides for name in names))
    found = []
    for names in sides:
        each = [np.array([moved[name][subject] for subject in sorted(shared)]) for name in names]
        found.append(np.mean([one / (one.sum() or 1.0) for one in each], axis=0))
    return np.stack(found)


def _z(
    values: Mapping[str, np.ndarray], sides: Sequence[Sequence[str]], floor: float
) -> np.ndarray:
    """[2, n, G]: the mean z of a side's rewards, in its own standard deviations again."""
    names = [name for own in sides for name in own]
    z = dict(zip(names, group_z(np.stack([values[name] for name in names]), floor), strict=True))
    means = np.stack([np.mean([z[name] for name in own], axis=0) for own in sides])
    return means if len(names) == len(sides) else group_z(means)


def _arms(recipe: Recipe, steps: int, shares: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """TDW, with the recipe's levels if it has such, and TDW that follows what was measured: by the
    root of shares too where windows are trained."""
    rule = recipe.credit.time_weights
    levels = rule if isinstance(rule, Tdw) and rule.kind == "tdw" else Tdw()
    found = {"TDW": timeweights.tdw(steps, levels.high, levels.low, levels.final)}
    if all(own.any() for own in shares):
        prompt, identity = (own.tolist() for own in shares)
        found["measured TDW"] = timeweights.measured(prompt, identity)
        if isinstance(recipe.rollout.trained, WindowSteps) and not recipe.objective.forward:
            found["measured TDW by roots"] = timeweights.measured(prompt, identity, power=0.5)
    return {name: weights.double().numpy() for name, weights in found.items()}


def _plans(recipe: Recipe) -> list[Plan]:
    """Of all iterations; an objective on finished images trains all levels on all noise."""
    if recipe.objective.forward:
        steps = stochastic_steps(recipe)
        return [(steps, steps)]
    plans = [
        plan_steps(recipe.rollout, recipe.seed, iteration)
        for iteration in range(recipe.run.iterations)
    ]
    return [(plan.stochastic, plan.trained) for plan in plans]


def _array(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """float64, NaN for null."""
    return np.array(rows, dtype=np.float64)
