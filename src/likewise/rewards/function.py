"""Any Python function as a reward: ``(images, tasks) -> one number per image``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from likewise.imports import load_target
from likewise.types import Task

RewardFunction = Callable[[Sequence[Image.Image], Sequence[Task]], Any]


class FunctionReward:
    """Implements :class:`likewise.protocols.Reward` with a function.

    The function takes B RGB images and their B tasks, and returns B numbers (a list, array or
    tensor), higher being better. ``None`` and NaN mean that it has nothing to say about an image.
    It may also return the pair (values, valid) of the protocol.
    """

    def __init__(self, function: RewardFunction) -> None:
        self.function = function

    @classmethod
    def load(cls, target: str) -> FunctionReward:
        """Import ``module:function``; raises as :func:`likewise.imports.load_target`."""
        return cls(load_target(target))

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: the function returned something else than one number per image.
            Exception: whatever the function raises.
        """
        answer = self.function(images, tasks)
        if isinstance(answer, tuple) and len(answer) == 2 and np.ndim(answer[0]) == 1:
            values, valid = (torch.as_tensor(part).detach().cpu() for part in answer)
        else:
            values = _numbers(answer)
            valid = torch.ones(values.shape, dtype=torch.bool)
        if values.shape != (len(images),) or valid.shape != values.shape:
            raise ValueError(
                f"the reward function returned shape {list(values.shape)} for {len(images)} "
                "images: wanted one number each"
            )
        return values.float(), valid.bool() & values.isfinite()


def _numbers(answer: Any) -> Tensor:
    """float32 of any shape; None becomes NaN."""
    if isinstance(answer, Tensor):
        return answer.detach().cpu().float()
    return torch.from_numpy(np.array(answer, dtype=np.float32))  # turns None into NaN
