"""Which step decides which reward, on the model at hand: ``likewise.api.attribute``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from likewise.analysis.intervals import Estimate
from likewise.api.targets import Target, find_drawing
from likewise.builders.datasets import build_stream
from likewise.builders.policies import build_policy, build_sampler
from likewise.builders.rewards import build_evaluators, build_rewards
from likewise.config.credit_rules import Measured
from likewise.config.data import Stickers
from likewise.config.recipe import Recipe
from likewise.config.rollout import AllSteps
from likewise.devices import find_device
from likewise.evaluation.attribution import Profile, attribute_steps, find_unable
from likewise.evaluation.sample_groups import score_groups
from likewise.protocols import Policy, Reward
from likewise.records.atomic import write_atomically
from likewise.records.checkpoints import NAME
from likewise.rollout.scoring import single_rewards
from likewise.rollout.steps import plan_steps
from likewise.types import Task

FILE = "attribution.json"
DIGITS = 3  # of shares in recipes: more would be noise


@dataclass(frozen=True)
class Attribution:
    """What was measured, and how.

    Attributes:
        recipe: Whose schedule, transition, rewards and training tasks.
        checkpoint: Iteration of the run's checkpoint; None for an untrained model.
        sigmas: Noise levels [T+1].
        steps: Those that are stochastic.
        tasks, resamples, seed: How many training tasks, and trajectories of each.
        scorers: ``reward/<name>`` in the recipe's order, then ``evaluator/<name>``.
        delays: (scorer of identity, scorer of the prompt) → by how many steps the centre of the
            first is later; of rewards with rewards, and of the held-out evaluators.
        spoilt: Reason → number of images that were shown to no scorer; their tasks do not count.
        moved: Scorer → subject → what each of T steps moved it, see `evaluation.attribution`.
        group_subjects: Of the groups.
        groups: Scorer → its values in groups [n, G], NaN where missing; n may be 0.
        file: Where it is written.
    """

    recipe: Recipe
    checkpoint: int | None
    sigmas: tuple[float, ...]
    steps: tuple[int, ...]
    tasks: int
    resamples: int
    seed: int
    scorers: Mapping[str, Profile]
    delays: Mapping[tuple[str, str], Estimate]
    spoilt: Mapping[str, int]
    moved: Mapping[str, Mapping[str, np.ndarray]]
    group_subjects: tuple[str, ...]
    groups: Mapping[str, np.ndarray]
    file: Path

    def time_weights(self) -> Measured | None:
        """The section of a recipe that weighs rewards so: mean shares of each side's rewards.

        None where a side has no reward, or none that ever varies.
        """
        profiles = {side: self._profile(side) for side in ("prompt", "identity")}
        if not all(map(any, profiles.values())):
            return None
        return Measured.model_validate(profiles)

    def _profile(self, side: str) -> list[float]:
        rewards = [
            (name, own) for name, own in self.recipe.rewards.items() if self._is_measured(name)
        ]
        shares = [self.scorers[f"reward/{name}"].share for name, own in rewards if own.side == side]
        return np.mean(shares, axis=0).round(DIGITS).tolist() if shares else []

    def _is_measured(self, name: str) -> bool:
        """Whether a reward was measured: diagnostics and rewards of whole groups are not."""
        return f"reward/{name}" in self.scorers

    def record(self) -> dict[str, object]:
        """What attribution.json holds."""
        rollout = self.recipe.rollout
        return {
            "model": self.recipe.policy.model,
            "recipe": self.recipe.name,
            "checkpoint": self.checkpoint,
            "num_steps": rollout.num_steps,
            "sigmas": self.sigmas,
            "transition": rollout.transition,
            "noise_level": rollout.noise_level,
            "steps": self.steps,
            "tasks": self.tasks,
            "resamples": self.resamples,
            "seed": self.seed,
            "spoilt": dict(self.spoilt),
            "scorers": {name: asdict(profile) for name, profile in self.scorers.items()},
            "delays": [
                {"of": one, "than": other, **asdict(delay)}
                for (one, other), delay in self.delays.items()
            ],
            "moved": {
                name: {subject: _numbers(parts) for subject, parts in own.items()}
                for name, own in self.moved.items()
            },
            "groups": {
                "subjects": self.group_subjects,
                "values": {
                    name: [_numbers(one) for one in own] for name, own in self.groups.items()
                },
            },
        }


def _numbers(values: np.ndarray) -> list[float | None]:
    """For JSON, to six digits; NaN is null."""
    return [float(f"{one:.6g}") if np.isfinite(one) else None for one in values.tolist()]


def attribute(
    target: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    tasks: int = 48,
    resamples: int = 4,
    groups: int = 0,
    seed: int = 0,
    best: bool = False,
    device: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    trust_code: bool = False,
) -> Attribution:
    """Measure how much of each score's variance the noise of each step decides, and write it down.

    The tasks are the first of training's: held-out subjects are for evaluation only, and what is
    measured here may become a recipe's time weights. Before anything is drawn, every scorer is
    tried on them: a reward that cannot score them is an error, an evaluator is left out.

    Args:
        target: A run (its newest intact checkpoint counts) or a model: shipped, folder, Hub name.
        recipe: For a model: its schedule, rewards and tasks. Default: ``stickers``.
        tasks: Number of training tasks.
        resamples: Trajectories per task, ≥ 2; each is drawn once more for every stochastic step.
        groups: For so many of the tasks a group is drawn besides, of the recipe's size and with
            all stochastic steps random: for how rewards go together (`advise`).
        seed: Seed of all noise.
        best: Take the run's best checkpoint instead of its newest.
        device: Default: cuda where there is one, else cpu.
        out: File to write. Default: attribution.json in the run; for a model
            ``runs/evaluation/<model>-attribution.json``.
        progress: Called with the number of tasks done.
        trust_code: Import what a run's recipe names as ``module:name``. What you pass as `recipe`
            is trusted.

    Raises:
        ValueError: there is no such target, a number is out of range, or a reward cannot score
            the tasks.
        OSError: a file or a model is not there.
    """
    found, own = find_drawing(target, recipe, best, trust_code)
    file, on = _file(found, target, out), find_device(device)
    result = _measure(
        own, found.adapter, file, on, tasks, resamples, min(groups, tasks), seed, progress
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(result.record(), indent=2) + "\n")
    return result


def _measure(
    recipe: Recipe,
    adapter: Path | None,
    file: Path,
    device: torch.device,
    tasks: int,
    resamples: int,
    groups: int,
    seed: int,
    progress: Callable[[int], None],
) -> Attribution:
    """See :func:`attribute`; nothing is written."""
    stream = build_stream(recipe)
    training = [stream(index) for index in range(tasks)]
    scorers = _scorers(recipe, training, device)
    policy = _policy(recipe, adapter, device)
    sampler, steps, size = (
        build_sampler(recipe, policy),
        stochastic_steps(recipe),
        recipe.rollout.micro_batch,
    )
    measured = attribute_steps(
        policy, sampler, training, scorers, steps, resamples, size, seed, progress
    )
    grouped = training[:groups]
    values = (
        score_groups(
            *(policy, sampler, grouped, scorers, steps, recipe.rollout.group_size, size, seed)
        )
        if grouped
        else {}
    )
    return Attribution(
        recipe=recipe,
        checkpoint=_iteration(adapter),
        sigmas=tuple(sampler.sigmas.tolist()),
        steps=steps,
        tasks=tasks,
        resamples=resamples,
        seed=seed,
        scorers=measured.profiles,
        delays={pair: measured.delay(*pair) for pair in _pairs(recipe, scorers)},
        spoilt=measured.spoilt,
        moved=measured.moved,
        group_subjects=tuple(task.subject for task in grouped),
        groups=values,
        file=file,
    )


def _file(found: Target, target: str | Path, out: str | Path | None) -> Path:
    """Where to write. Raises ValueError for a folder."""
    file = Path(out or (Path(target) / FILE if found.adapter else found.out + FILE))
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it, as {file / FILE}")
    return file


def _policy(recipe: Recipe, adapter: Path | None, device: torch.device) -> Policy:
    policy = build_policy(recipe, device, trainable=adapter is None)
    if adapter is not None:
        policy.load_adapter(adapter)
    return policy


def stochastic_steps(recipe: Recipe) -> tuple[int, ...]:
    """The steps that are stochastic when all are trained, whichever the recipe trains."""
    rollout = recipe.rollout.model_copy(update={"trained": AllSteps()})
    return plan_steps(rollout, 0, 0).stochastic


def _pairs(recipe: Recipe, scorers: Collection[str]) -> list[tuple[str, str]]:
    """Scorers of identity with those of the prompt: rewards with rewards, and the evaluators."""
    sides: dict[str, list[str]] = {"identity": [], "prompt": []}
    for name, own in recipe.rewards.items():
        if f"reward/{name}" in scorers and own.side in sides:
            sides[own.side].append(f"reward/{name}")
    pairs = [(one, other) for one in sides["identity"] for other in sides["prompt"]]
    held_out = ("evaluator/identity", "evaluator/prompt")
    return [*pairs, held_out] if set(held_out) <= set(scorers) else pairs


def _scorers(recipe: Recipe, tasks: Sequence[Task], device: torch.device) -> dict[str, Reward]:
    """Credited rewards and held-out evaluators by name; a warning for those that are left out.

    Raises:
        ValueError: a reward cannot score the tasks (the message names it).
    """
    rewards = single_rewards(build_rewards(recipe, device))
    found = {f"reward/{name}": one for name, one in rewards.items() if name in recipe.credited}
    held_out = build_evaluators(recipe, device, isinstance(recipe.data, Stickers))
    found |= {f"evaluator/{name}": one for name, one in held_out.items()}
    unable = find_unable(found, tasks, (recipe.policy.width, recipe.policy.height))
    for name, reason in unable.items():
        if name.startswith("reward/"):
            raise ValueError(
                f"{name} cannot be measured on these tasks, so nothing was drawn: {reason}"
            )
        warnings.warn(f"{name} is left out: {reason}", stacklevel=4)
    return {name: one for name, one in found.items() if name not in unable}


def _iteration(adapter: Path | None) -> int | None:
    """Iteration of the checkpoint that holds an adapter's folder."""
    name = NAME.fullmatch(adapter.parent.name) if adapter else None
    return int(name[1]) if name else None
