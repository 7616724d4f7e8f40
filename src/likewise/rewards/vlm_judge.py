"""A vision-language model as reward: any OpenAI-compatible endpoint, asked for scores 0 to 4."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import cache

import torch
from PIL import Image
from torch import Tensor

from likewise.config.rewards import VlmJudge
from likewise.config.rewards.reward_section import Side
from likewise.rewards.common.inputs import check_images, check_tasks
from likewise.rewards.vlm.judge import Answer, Judge
from likewise.rewards.vlm.outcomes import Counts, JudgeError
from likewise.rewards.vlm.question import Question
from likewise.rewards.vlm.verdict import Verdict
from likewise.types import Task

ASPECTS: dict[Side, str] = {"identity": "concept_preservation", "prompt": "prompt_following"}


class VlmJudgeReward:
    """Implements :class:`likewise.protocols.SlowReward`: one of a VLM judge's two scores, 0 to 4.

    An image without a verdict is missing.

    Args:
        judge: Both rewards of a recipe share one: a request gives both scores.
        score: Which of them.
    """

    def __init__(self, judge: Judge, score: Side) -> None:
        self.judge, self.aspect = judge, ASPECTS[score]

    @classmethod
    def load(cls, settings: VlmJudge) -> VlmJudgeReward:
        """The reward of a recipe; where only side, score and weight differ, the judge is shared.

        Raises:
            ValueError: as :class:`~likewise.rewards.vlm.judge.Judge`.
        """
        same = {"side": "identity", "score": None, "weight": 1.0}
        judge = _shared_judge(settings.model_copy(update=same))
        return cls(judge, settings.score or settings.side)  # type: ignore[arg-type]

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: an image or reference is not RGB, or the lengths differ.
        """
        return self.submit(images, tasks).result(time.monotonic())

    def submit(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> PendingVerdicts:
        """Begin to ask; raises as :meth:`score`."""
        check_tasks(images, tasks)
        check_images([task.reference for task in tasks], "reference")
        questions = [
            Question(image, task.reference, task.prompt, task.class_name)
            for image, task in zip(images, tasks, strict=True)
        ]
        asked = self.judge.ask(questions, self.aspect)
        return PendingVerdicts(*asked, self.aspect, self.judge.settings.base_url)

    def probe(self) -> None:
        """Raise ValueError if nothing answers at the endpoint's address."""
        self.judge.probe()


class PendingVerdicts:
    """Implements :class:`likewise.protocols.Pending`.

    Args:
        answers: As :meth:`Judge.ask` returns them, with what they take.
        aspect: Which score of a verdict counts.
        url: Who was asked, for messages.
    """

    def __init__(
        self, answers: Future[list[Answer]], counts: Counts, aspect: str, url: str = "the judge"
    ) -> None:
        self._answers, self._counts, self._aspect, self._url = answers, counts, aspect, url
        self.problem = ""

    @property
    def counts(self) -> dict[str, float]:
        """By the names of `Counts`, which sum up to the judge's over the rewards that share it.

        Without what is missing, which is counted for every reward.
        """
        return {name: sum_ for name, sum_ in asdict(self._counts).items() if name != "missing"}

    def result(self, since: float) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Pending`.

        Each image has its deadline from when it was asked about, which is before `since`.
        """
        answers = self._answers.result()
        why = Counter(str(one) for one in answers if isinstance(one, JudgeError))
        if why:
            listed = "; ".join(f"{reason} ({times})" for reason, times in why.most_common(5))
            lost = f"{why.total()} of {len(answers)} images"
            self.problem = f"no verdict from {self._url} about {lost}: {listed}"
        valid = [isinstance(one, Verdict) for one in answers]
        values = [getattr(one, self._aspect, 0) for one in answers]
        return torch.tensor(values, dtype=torch.float32), torch.tensor(valid, dtype=torch.bool)


@cache
def _shared_judge(settings: VlmJudge) -> Judge:
    return Judge(settings)
