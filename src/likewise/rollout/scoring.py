"""Pictures → rewards. A reward that fails is missing, never 0 (METHOD §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from likewise.protocols import Reward
from likewise.types import Task


@dataclass(frozen=True)
class Scores:
    """What K rewards say about B pictures.

    Attributes:
        values: float32 [K, B]; 0 where not valid, and not to be read there.
        valid: bool [K, B]; false where a reward is missing.
        failures: Reward's name → what went wrong, for calls that failed as a whole.
    """

    values: Tensor
    valid: Tensor
    failures: Mapping[str, str]


def beside_judges(rewards: Mapping[str, Reward], judges: Mapping[str, Reward]) -> dict[str, Reward]:
    """Rewards under their own names, then judges as ``judge-<name>``: what evaluations ask."""
    return {**rewards, **{f"judge-{name}": judge for name, judge in judges.items()}}


def join_scores(shares: Sequence[tuple[Sequence[int], Scores]]) -> Scores:
    """Scores of all B pictures from those of parts, each with its rows; together 0 … B − 1.

    The first failure of each reward stands for all.
    """
    rows = torch.tensor([row for part, _ in shares for row in part])
    order = rows.argsort()
    values = torch.cat([scores.values for _, scores in shares], dim=1)[:, order]
    valid = torch.cat([scores.valid for _, scores in shares], dim=1)[:, order]
    failures: dict[str, str] = {}
    for _, scores in shares:
        failures = {**scores.failures, **failures}
    return Scores(values, valid, failures)


def score_pictures(
    rewards: Mapping[str, Reward], images: Sequence[Image.Image], tasks: Sequence[Task]
) -> Scores:
    """Ask every reward about every picture.

    A reward that raises, or answers in another shape, is missing for all pictures of this call and
    named in `failures`; a value that is not finite is missing for its picture.
    """
    values = torch.zeros(len(rewards), len(images))
    valid = torch.zeros(len(rewards), len(images), dtype=torch.bool)
    failures: dict[str, str] = {}
    for k, (name, reward) in enumerate(rewards.items()):
        try:
            answer, known = _checked(reward.score(images, tasks), len(images))
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        valid[k] = known & answer.isfinite()
        values[k] = answer.masked_fill(~valid[k], 0)
    return Scores(values, valid, failures)


def _checked(answer: object, count: int) -> tuple[Tensor, Tensor]:
    """An answer as values float32 [B] and valid bool [B] on the CPU.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise TypeError("a reward's score must return (values, valid)")
    values, valid = (torch.as_tensor(part).detach().cpu() for part in answer)
    if values.shape != (count,) or valid.shape != (count,):
        raise ValueError(
            f"values are {list(values.shape)} and valid {list(valid.shape)} for {count} pictures: "
            f"wanted [{count}] each"
        )
    return values.float(), valid.bool()


def to_pil(pictures: Sequence[Tensor] | Tensor) -> list[Image.Image]:
    """float32 [3, H, W] in [0, 1] each → 8-bit RGB, rounded as diffusers does."""
    arrays = [(one * 255).round().byte().permute(1, 2, 0).cpu().numpy() for one in pictures]
    return [Image.fromarray(array) for array in arrays]
