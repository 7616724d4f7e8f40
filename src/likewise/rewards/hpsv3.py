"""HPSv3: how much would people prefer this image for this prompt?

Ma et al. 2025, "HPSv3: Towards Wide-Spectrum Human Preference Score" (arXiv:2508.03789). Our own
loading of the published checkpoint: the original package pins a transformers of 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from likewise.hub import weights_file
from likewise.pretrained.first_use import first_use
from likewise.rewards.common.inputs import BLANK, check_images, check_tasks
from likewise.rewards.hps.model import load_config, load_model
from likewise.rewards.hps.reward_inputs import REWARD, Questions, check_prompts, check_shapes
from likewise.types import Task


class HpsV3Reward:
    """Mean μ of the preference that HPSv3 predicts, unbounded, about -1 to 15.

    Args:
        model: The checkpoint: a safetensors file, or ``owner/repository/file`` on the Hub.
        base: Directory or Hub name of the Qwen2-VL that it was tuned from: its configuration,
            tokenizer and image processor are used, not its weights.
        device: Where to compute.
        dtype: Of the network; its head computes in float32.
        batch: Images per forward. About 850 tokens each.

    Raises:
        ValueError: the checkpoint or the base is not what it should be (the message says what).
        OSError: there is no such base (the message is transformers').
    """

    def __init__(
        self,
        model: str | Path = "MizzenAI/HPSv3/HPSv3.safetensors",
        base: str | Path = "Qwen/Qwen2-VL-7B-Instruct",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        batch: int = 8,
    ) -> None:
        self.device, self.batch = torch.device(device), batch
        self.questions = Questions(base)
        config = load_config(base, self.questions.vocabulary)
        self.model = load_model(weights_file(model, "model"), config, dtype, self.device)
        with first_use(base, {"": self.model}, ""):
            self._forward([BLANK], ["a picture"])

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        A value that is not finite, as float16 may give, is not valid.

        Raises:
            ValueError: as :meth:`distributions`.
        """
        check_tasks(images, tasks)
        values = self.distributions(images, [task.prompt for task in tasks])[:, 0]
        return values, values.isfinite()

    def distributions(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """μ and log σ of each image's preference, float32 [B, 2] on the CPU.

        The second is what the head gives; the loss that trained it takes its exponential as σ.

        Raises:
            ValueError: an image is not RGB or more than 200 times as long as wide (the message
                names it), `prompts` is a plain string, or the lengths differ.
        """
        check_prompts(prompts, len(images))
        check_images(images)
        check_shapes(images)
        starts = range(0, len(images), self.batch)
        parts = [
            self._forward(images[i : i + self.batch], prompts[i : i + self.batch]) for i in starts
        ]
        return torch.cat(parts) if parts else torch.zeros(0, 2)

    @torch.no_grad()
    def _forward(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        inputs = self.questions(images, prompts)
        on_device = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return self.model(self.questions.ids[REWARD], **on_device).cpu()
