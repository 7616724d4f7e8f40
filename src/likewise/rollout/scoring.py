"""Images → rewards. A reward that fails is missing, never 0 (docs/method.md §2)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from likewise.protocols import AnyReward, GroupReward, Pending, Reward, SlowReward
from likewise.rollout.containment import contained
from likewise.types import Task


@dataclass(frozen=True)
class Scores:
    """What K rewards say about B images.

    Attributes:
        values: float32 [K, B]; 0 where not valid, and not to be read there.
        valid: bool [K, B]; false where a reward is missing.
        failures: Reward's name → what went wrong, for calls that failed, or slow ones in part.
        counts: Slow reward's name → what happened meanwhile (:class:`likewise.protocols.Pending`).
        embeddings: Group reward's name → what it compares, float32 [B, D]; NaN where it failed. Its
            values are missing until `rollout.groups.compare_groups` has filled them in.
        spoilt: Reason → number of images that no reward was asked about (`rollout.spoilt`).
        finished: What the rewards say about the images that the latents before each step lead to
            along the ODE, float32 [K, B, T+1]; NaN where missing or not asked. None where no
            image was finished (`rollout.finishes`).
    """

    values: Tensor
    valid: Tensor
    failures: Mapping[str, str]
    counts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    spoilt: Mapping[str, int] = field(default_factory=dict)
    finished: Tensor | None = None

    @property
    def problems(self) -> dict[str, str]:
        """`failures`, and under ``images`` what was spoilt, for people to read."""
        parts = [f"{count} are {why.replace('_', ' ')}" for why, count in self.spoilt.items()]
        return {**self.failures, **({"images": ", ".join(parts)} if parts else {})}

    def silent(self, names: Sequence[str]) -> list[str]:
        """Which of the rewards, given in order, are missing for every image without a failure."""
        return [
            name
            for name, known in zip(names, self.valid, strict=True)
            if name not in self.failures and not bool(known.any())
        ]


def single_rewards(rewards: Mapping[str, AnyReward]) -> dict[str, Reward]:
    """Those that score an image by itself, as evaluations of one image per task need."""
    return {name: one for name, one in rewards.items() if not isinstance(one, GroupReward)}


def beside_evaluators(
    rewards: Mapping[str, AnyReward], evaluators: Mapping[str, Reward]
) -> dict[str, Reward]:
    """What evaluations ask: rewards by name, then held-out evaluators as ``evaluator/<name>``."""
    named = {f"evaluator/{name}": evaluator for name, evaluator in evaluators.items()}
    return {**single_rewards(rewards), **named}


def join_scores(shares: Sequence[tuple[Sequence[int], Scores]]) -> Scores:
    """Scores of all B samples from those of parts of them.

    Each part comes with the indices of its samples, together 0 … B − 1. The first failure of
    each reward stands for all; counts add up.
    """
    indices = torch.tensor([index for part, _ in shares for index in part])
    order = indices.argsort()
    values = torch.cat([scores.values for _, scores in shares], dim=1)[:, order]
    valid = torch.cat([scores.valid for _, scores in shares], dim=1)[:, order]
    failures, counts, spoilt = add_troubles([scores for _, scores in shares])
    embeddings = _join_embeddings([scores for _, scores in shares], order)
    parts = [scores.finished for _, scores in shares if scores.finished is not None]
    finished = torch.cat(parts, dim=1)[:, order] if parts else None
    return Scores(values, valid, failures, counts, embeddings, spoilt, finished)


def add_troubles(
    parts: Sequence[Scores],
) -> tuple[dict[str, str], dict[str, Counter[str]], Counter[str]]:
    """`failures`, `counts` and `spoilt` of them all: the first failure of each reward, and sums."""
    failures: dict[str, str] = {}
    counts: dict[str, Counter[str]] = {}
    spoilt: Counter[str] = Counter()
    for scores in parts:
        spoilt.update(scores.spoilt)
        failures = {**scores.failures, **failures}
        for name, own in scores.counts.items():
            counts.setdefault(name, Counter()).update(own)
    return failures, counts, spoilt


def _join_embeddings(parts: Sequence[Scores], order: Tensor) -> dict[str, Tensor]:
    widths = {name: own.shape[1] for scores in parts for name, own in scores.embeddings.items()}
    return {
        name: torch.cat(
            [
                scores.embeddings.get(name, torch.full((scores.values.shape[1], width), torch.nan))
                for scores in parts
            ]
        )[order]
        for name, width in widths.items()
    }


def score_images(
    rewards: Mapping[str, AnyReward], images: Sequence[Image.Image], tasks: Sequence[Task]
) -> Scores:
    """Ask every reward about every image, and wait for the answers; see :class:`Asked`."""
    return Asked(rewards, images, tasks).scores(time.monotonic())


class Asked:
    """Questions to every reward about every image; slow rewards answer in the background.

    Group rewards only embed the images.

    A reward that raises, or answers in another shape, is missing for all images of this call and
    named in `failures`; a value that is not finite is missing for its image.
    """

    def __init__(
        self, rewards: Mapping[str, AnyReward], images: Sequence[Image.Image], tasks: Sequence[Task]
    ) -> None:
        self.names, self.count = list(rewards), len(images)
        self.pending: dict[str, Pending] = {}
        self.answers: dict[str, object] = {}
        self.embeddings: dict[str, Tensor] = {}
        self.failures: dict[str, str] = {}
        for name, reward in rewards.items():
            if isinstance(reward, SlowReward):
                with contained(name, self.failures):
                    self.pending[name] = reward.submit(images, tasks)
        for name, reward in rewards.items():
            with contained(name, self.failures):
                if isinstance(reward, GroupReward):
                    self.embeddings[name] = _checked_embeddings(reward.embed(images), len(images))
                elif not isinstance(reward, SlowReward):
                    self.answers[name] = reward.score(images, tasks)

    def scores(self, since: float) -> Scores:
        """Wait for what is missing; deadlines count from `since`, by ``time.monotonic``."""
        counts = {}
        for name, pending in self.pending.items():
            with contained(name, self.failures):
                self.answers[name] = pending.result(since)
            counts[name] = pending.counts
            if pending.problem:
                self.failures.setdefault(name, pending.problem)
        values = torch.zeros(len(self.names), self.count)
        valid = torch.zeros(len(self.names), self.count, dtype=torch.bool)
        for name in self.answers:
            with contained(name, self.failures):
                answer, known = _checked_answer(self.answers[name], self.count)
                k = self.names.index(name)
                valid[k] = known & answer.isfinite()
                values[k] = answer.masked_fill(~valid[k], 0)
        return Scores(values, valid, self.failures, counts, self.embeddings)


def _checked_embeddings(embeddings: Tensor, count: int) -> Tensor:
    """Embeddings [B, D] as float32 on the CPU; raises ValueError if they are something else."""
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise ValueError(f"embeddings are {list(embeddings.shape)} for {count} images")
    return embeddings.detach().float().cpu()


def _checked_answer(answer: object, count: int) -> tuple[Tensor, Tensor]:
    """An answer as values float32 [B] and valid bool [B] on the CPU.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise TypeError("a reward's score must return (values, valid)")
    values, valid = (torch.as_tensor(part).detach().cpu() for part in answer)
    if values.shape != (count,) or valid.shape != (count,):
        raise ValueError(
            f"values are {list(values.shape)} and valid {list(valid.shape)} for {count} images: "
            f"wanted [{count}] each"
        )
    return values.float(), valid.bool()


def to_pil(images: Sequence[Tensor] | Tensor) -> list[Image.Image]:
    """float32 [3, H, W] in [0, 1] each → 8-bit RGB, rounded as diffusers does; NaN becomes 0."""
    levels = [(one.nan_to_num(0) * 255).round().byte() for one in images]
    arrays = [one.permute(1, 2, 0).cpu().numpy() for one in levels]
    return [Image.fromarray(array) for array in arrays]
