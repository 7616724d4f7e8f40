"""How much the noise of each step decides each score: the premise of TDW, measured.

An image is a function of its initial noise and of the noise of every stochastic step. For score f
and step t, let f_t be the score of the same trajectory with only the noise of t drawn anew. Then

    share(t) = E[(f − f_t)²] / (2·Var f)

is the total-effect index of t (Sobol; this estimator: Jansen 1999): the part of the variance that
would stay if all other noise were known. Shares sum to 1 where steps do not interact, to more where
they do. The variance is that within a group of training: of one task, from one initial noise.

The *centre* of a score is the mean step, weighted by these shares: Σ t·share(t) / Σ share(t).

All stochastic steps are random here, also where a recipe trains windows: shares of one window alone
could not be compared with those of another.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from likewise.analysis.intervals import (
    Estimate,
    ratio_difference,
    ratio_interval,
    sums_ratio,
)
from likewise.analysis.spoilt_counts import in_words
from likewise.protocols import Condition, Policy, Reward
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import Scores, score_images
from likewise.rollout.spoilt import AskedUsable
from likewise.seeding import derive_seed
from likewise.types import Task

SUBJECTS = 2  # at least, for an interval over subjects


@dataclass(frozen=True)
class Profile:
    """One scorer's shares over the T steps of a schedule; 0 at deterministic steps.

    Attributes:
        share: ≥ 0; 0 too where the score never varies.
        low, high: 95 % interval of each, from a bootstrap over subjects that is widened for few of
            them, as everywhere (`analysis.intervals`).
        std: Of the score, within a task.
        centre: In steps, with the same kind of interval; no mean where the score never varies.
    """

    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    std: float
    centre: Estimate


@dataclass(frozen=True)
class Attributed:
    """What was measured.

    Attributes:
        profiles: Of every scorer.
        moved: Scorer's name → subject → E[(f − f_t)²]/2 of its tasks added up, float64 [T].
        spoilt: Reason → number of images that were shown to no scorer (flat, not finite); their
            tasks do not count.
    """

    profiles: Mapping[str, Profile]
    moved: Mapping[str, Mapping[str, np.ndarray]]
    spoilt: Mapping[str, int]

    def delay(self, scorer: str, than: str) -> Estimate:
        """How many steps later the centre of `scorer` is than that of another one.

        Over the subjects that both score. No mean where one of them never varies.
        """
        shared = sorted(self.moved[scorer].keys() & self.moved[than].keys())
        first, second = (
            _moments(np.stack([self.moved[name][subject] for subject in shared]))
            for name in (scorer, than)
        )
        if not (first[1].any() and second[1].any()):
            return Estimate(None, None, None, 0)
        return ratio_difference(first, second)


def find_unable(
    scorers: Mapping[str, Reward], tasks: Sequence[Task], size: tuple[int, int]
) -> dict[str, str]:
    """Scorer's name → why it cannot be measured on these tasks; found before anything is drawn.

    Every scorer is tried on the references themselves, brought to the `size` (width, height) of
    what will be drawn: whether a task can be scored depends on the task (its mask, its other
    photos, its constraints), not on the image.
    """
    images = [task.reference.resize(size) for task in tasks]
    scores = score_images(scorers, images, tasks)
    found = {}
    for name, valid in zip(scorers, scores.valid.tolist(), strict=True):
        subjects = {task.subject for task, known in zip(tasks, valid, strict=True) if known}
        if len(subjects) < SUBJECTS:
            few = f"it can score {sum(valid)} of {len(tasks)} tasks, about {len(subjects)} subjects"
            found[name] = scores.failures.get(name, few)
    return found


def attribute_steps(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    scorers: Mapping[str, Reward],
    steps: Sequence[int],
    draws: int,
    micro_batch: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Attributed:
    """Profile of every scorer. Results depend on `micro_batch` by rounding only.

    Args:
        tasks: About two subjects or more.
        steps: Which are stochastic, ascending true indices; all others follow the ODE.
        draws: Trajectories per task, ≥ 2, all from one initial noise; each is drawn once more for
            every one of `steps`.
        micro_batch: Images per forward.
        progress: Called with the number of tasks done.

    Raises:
        ValueError: fewer than two subjects or draws, or a scorer fails (the message names it).
    """
    if draws < 2 or len({task.subject for task in tasks}) < SUBJECTS:
        raise ValueError("attribution needs two draws and tasks about two subjects, or more")
    parts: list[Scores] = []
    at_once = max(1, micro_batch // draws)
    for start in range(0, len(tasks), at_once):
        some = tasks[start : start + at_once]
        latents = _draw(policy, sampler, some, start, steps, draws, micro_batch, seed)
        decoded = [one for part in latents.split(micro_batch) for one in policy.decode(part).cpu()]
        about = [task for task in some for _ in range(draws)] * (1 + len(steps))
        scores = AskedUsable(scorers, decoded, about).scores(time.monotonic())
        for name, reason in scores.failures.items():
            raise ValueError(f"{name} failed: {reason}")
        parts.append(scores)
        progress(start + len(some))
    shape = (len(scorers), 1 + len(steps), -1, draws)
    values = torch.cat([part.values.reshape(shape) for part in parts], 2).double().numpy()
    valid = torch.cat([part.valid.reshape(shape) for part in parts], 2).numpy()
    subjects = [task.subject for task in tasks]
    spoilt = sum((Counter(part.spoilt) for part in parts), Counter[str]())
    try:
        found = {
            name: _profile(name, values[k], valid[k], subjects, steps, sampler.num_steps)
            for k, name in enumerate(scorers)
        }
    except ValueError as error:
        raise ValueError(f"{error}{_also(spoilt)}") from error
    return Attributed(
        {name: profile for name, (profile, _) in found.items()},
        {name: moved for name, (_, moved) in found.items()},
        dict(sorted(spoilt.items())),
    )


def _also(spoilt: Mapping[str, int]) -> str:
    return f"; {in_words(spoilt)}" if spoilt else ""


@torch.no_grad()
def _draw(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    first: int,
    steps: Sequence[int],
    draws: int,
    micro_batch: int,
    seed: int,
) -> Tensor:
    """Finished latents of all trajectories [(1 + S)·D, *latent], D = tasks·draws.

    First the D base draws, then for each of the S steps the same with that step's noise drawn anew.
    Each branches off its base at its step, so that nothing is computed twice.
    """
    numbers = [(first + task, draw) for task in range(len(tasks)) for draw in range(draws)]

    def noise(purpose: str, t: int) -> Tensor:
        seeds = [derive_seed("attribution", seed, purpose, t, *number) for number in numbers]
        return policy.initial_noise(seeds)

    seeds = [derive_seed("attribution", seed, "initial noise", task) for task, _ in numbers]
    x = policy.initial_noise(seeds)
    condition = policy.encode(tasks).repeat(draws)
    for t in range(sampler.num_steps):
        v = _velocity(policy, x, sampler.sigmas[t], condition, micro_batch)
        if t not in steps:
            x = sampler.deterministic(x, v, t)
            continue
        base, branches = len(numbers), len(x) // len(numbers)
        same = sampler.step(x, v, t, torch.cat([noise("step", t)] * branches))
        anew = sampler.step(x[:base], v[:base], t, noise("step anew", t))
        x = torch.cat([same.following, anew.following])
    return x


def _velocity(
    policy: Policy, x: Tensor, sigma: Tensor, condition: Condition, micro_batch: int
) -> Tensor:
    """Velocities of all samples of x; sample b is for entry b mod D of the condition."""
    parts = []
    for indices in torch.arange(len(x)).split(micro_batch):
        own = condition.select((indices % len(condition)).tolist())
        parts.append(policy.velocity(x[indices], sigma, own))
    return torch.cat(parts)


def _profile(
    name: str,
    values: np.ndarray,
    valid: np.ndarray,
    subjects: Sequence[str],
    steps: Sequence[int],
    num_steps: int,
) -> tuple[Profile, Mapping[str, np.ndarray]]:
    """From scores [1 + S, tasks, draws]; a task that lacks any score does not count.

    Returns:
        The profile, and what it comes from: see ``Attributed.moved``.
    """
    known = valid.all(axis=(0, 2))
    names, index = np.unique(np.array(subjects)[known], return_inverse=True)
    if not len(index) or index.max() == 0:
        raise ValueError(f"{name} scores tasks of fewer than two subjects")
    values = values[:, known]
    # Every branch holds draws from the same distribution as the base, so each tells the variance.
    variance = values.var(axis=2, ddof=1).mean(axis=0)
    moved = ((values[0] - values[1:]) ** 2).mean(axis=2) / 2
    total, counts = np.bincount(index, weights=variance), np.bincount(index)
    share, low, high = np.zeros((3, num_steps))
    parts = np.zeros((len(names), num_steps))
    for step, one in zip(steps, moved, strict=True):
        parts[:, step] = np.bincount(index, weights=one)
        share[step] = sums_ratio(parts[:, step], total)  # what never varies is moved by nothing
        low[step], high[step] = ratio_interval(parts[:, step], total)
    std = float(np.sqrt(total.sum() / counts.sum()))
    profile = Profile(
        tuple(share.tolist()), tuple(low.tolist()), tuple(high.tolist()), std, _centre(parts)
    )
    return profile, dict(zip(names.tolist(), parts, strict=True))


def _centre(parts: np.ndarray) -> Estimate:
    """Mean step, weighted by what each of the c subjects' steps moved: [c, T]."""
    first, wholes = _moments(parts)
    if not wholes.any():
        return Estimate(None, None, None, 0)
    mean = float(sums_ratio(first, wholes))
    return Estimate(mean, *ratio_interval(first, wholes), len(parts))


def _moments(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ_t t·part and Σ_t part of each subject, from [c, T]."""
    return parts @ np.arange(parts.shape[1]), parts.sum(axis=1)
