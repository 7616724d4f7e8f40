"""What one iteration says about the rewards, their conflict, the credit and the update."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from likewise.trainer.assignment import Assignment
from likewise.trainer.update import UpdateSums

Numbers = dict[str, float | None]


def evaluation_means(row: Mapping[str, float | None]) -> dict[str, float]:
    """What a row of metrics says of the evaluation set, by scorer: its means that are known."""
    return {
        key.removeprefix("eval/"): value
        for key, value in row.items()
        if key.startswith("eval/") and not key.endswith("/std") and value is not None
    }


def reward_numbers(
    names: Sequence[str], values: Tensor, valid: Tensor, group_size: int, floor: float
) -> Numbers:
    """Per reward: mean, std, min, max, mean std inside groups, missing and flat groups.

    Over valid values only; None where there are not enough of them. `flat_groups` counts groups
    with at least two valid values whose std is below `floor`.
    """
    numbers: Numbers = {}
    for name, reward, known in zip(names, values, valid, strict=True):
        seen = reward[known]
        spreads = [
            group[mask].std()
            for group, mask in zip(reward.split(group_size), known.split(group_size), strict=True)
            if mask.sum() >= 2
        ]
        inside = torch.stack(spreads) if spreads else torch.zeros(0)
        numbers |= {
            f"reward/{name}/mean": _number(seen.mean()),
            f"reward/{name}/std": _number(seen.std()) if len(seen) > 1 else None,
            f"reward/{name}/min": _number(seen.min()) if len(seen) else None,
            f"reward/{name}/max": _number(seen.max()) if len(seen) else None,
            f"reward/{name}/group_std": _number(inside.mean()),
            f"reward/{name}/missing": float((~known).sum()),
            f"reward/{name}/flat_groups": float((inside < floor).sum()),
        }
    return numbers


def count_numbers(counts: Mapping[str, Mapping[str, float]]) -> Numbers:
    """``reward/<name>/<count>`` of slow rewards, as in ``reward/taste/failed/timeout``."""
    return {
        f"reward/{name}/{key}": float(count)
        for name, own in counts.items()
        for key, count in own.items()
    }


def conflict_numbers(sides: Mapping[str, str], credit: Assignment) -> Numbers:
    """How far rewards agree, diagnostics aside, over samples that have all and credit at stake.

    `correlation` is Pearson's of z, `conflict_rate` the share whose z have opposite signs, both
    averaged over pairs of rewards. `shaping/mean_abs` is the size of what shaping adds to the
    weighted sum; a rule that replaces the sum has `combined/mean_abs` instead. Quadrants are shares
    of (prompt, identity) signs, each side being the mean z of its rewards: ``quadrant/+-`` follows
    the prompt and loses the subject.
    """
    own = {k: side for k, side in enumerate(sides.values()) if side != "diagnostic"}
    z = credit.z[list(own)]
    z = z[:, credit.known[list(own)].all(0) & (z != 0).any(0)]
    kind = "combined" if credit.stands_alone else "shaping"
    numbers: Numbers = {
        "incomplete": float((~credit.complete).sum()),
        f"{kind}/mean_abs": _number(credit.shaped[credit.complete].abs().mean()),
    }
    pairs = list(itertools.combinations(range(len(z)), 2))
    if pairs:
        opposed = [(z[i] * z[j] < 0).float().mean() for i, j in pairs]
        numbers["conflict_rate"] = _number(torch.stack(opposed).mean())
        together = [_correlation(z[i], z[j]) for i, j in pairs]
        known = [value for value in together if value is not None]
        numbers["correlation"] = sum(known) / len(known) if known else None
    if len(set(own.values())) == 2:
        numbers |= _quadrants(list(own.values()), z)
    return numbers


def _quadrants(sides: Sequence[str], z: Tensor) -> Numbers:
    prompt, identity = (
        z[[k for k, side in enumerate(sides) if side == wanted]].mean(0)
        for wanted in ("prompt", "identity")
    )
    return {
        f"quadrant/{'+' if p else '-'}{'+' if i else '-'}": _number(
            (((prompt > 0) == p) & ((identity > 0) == i)).float().mean()
        )
        for p, i in itertools.product((True, False), repeat=2)
    }


def credit_numbers(names: Sequence[str], credit: Assignment, steps: Sequence[int]) -> Numbers:
    """Weight of each reward at each trained step, and the size of the advantages there."""
    numbers: Numbers = {}
    weights = credit.weights if credit.weights.ndim == 2 else credit.weights.mean(1)
    for k, t in itertools.product(range(len(names)), steps):
        numbers[f"weight/{names[k]}/step_{t:02d}"] = float(weights[k, t])
    numbers["advantage/mean_abs"] = float(credit.advantages[:, list(steps)].abs().mean())
    return numbers


def gain_numbers(names: Sequence[str], credit: Assignment, steps: Sequence[int]) -> Numbers:
    """Mean and std of each reward's gains at each trained step, over complete samples.

    The std is how far the noise of that step moves the reward; nothing for rules without gains, and
    for diagnostics.
    """
    numbers: Numbers = {}
    if credit.gains is None:
        return numbers
    for (k, name), (i, t) in itertools.product(enumerate(names), enumerate(steps)):
        if credit.weights[k].any():
            own = credit.gains[k, credit.complete, i]
            numbers[f"gain/{name}/step_{t:02d}/mean"] = _number(own.mean())
            numbers[f"gain/{name}/step_{t:02d}/std"] = _number(own.std()) if len(own) > 1 else None
    return numbers


def update_numbers(
    parts: Sequence[UpdateSums], norms: Sequence[float], learning_rate: float
) -> Numbers:
    """The objective's statistics over all processes, and what the optimiser did with it.

    `skipped` counts steps that were not taken: without credit the gradient is 0, and one that is
    not finite must not reach the weights.
    """
    means, most = (
        dict.fromkeys(name for part in parts for name in getattr(part, kind))
        for kind in ("sums", "most")
    )

    def mean(name: str) -> float:
        count = sum(part.counts.get(name, 0) for part in parts)
        return sum(part.sums.get(name, 0.0) for part in parts) / count

    return {
        "update/steps": len(norms),
        "update/skipped": sum(not 0 < norm < math.inf for norm in norms),
        **{f"update/{name}": mean(name) for name in means},
        **{f"update/{name}": max(part.most.get(name, 0.0) for part in parts) for name in most},
        "update/grad_norm": sum(norms) / len(norms),
        "update/learning_rate": learning_rate,
    }


def mean_numbers(parts: Sequence[Numbers]) -> Numbers:
    """By name, the mean over those that have it; None where none knows it."""
    found: Numbers = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        known = [value for part in parts if (value := part.get(name)) is not None]
        found[name] = sum(known) / len(known) if known else None
    return found


def made_progress(update: Numbers) -> bool:
    """Whether any optimiser step of the iteration moved the weights."""
    return (update["update/skipped"] or 0) < (update["update/steps"] or 0)


def _correlation(one: Tensor, other: Tensor) -> float | None:
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return None
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _number(value: Tensor) -> float | None:
    """None for the mean of nothing."""
    return float(value) if bool(value.isfinite()) else None
