"""What Qwen-Image-Edit's text encoder needs beside the pipeline: where images are, a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import Qwen2VLProcessor as PublishedProcessor

from likewise.pretrained.processors import load_image_processor, load_tokenizer


def mark_images(text_encoder: Any) -> None:
    """Tell a Qwen2.5-VL which tokens are images, at each of its forwards.

    transformers 5 gives image tokens their rows and columns (M-RoPE, 2409.12191) only where it is
    told which they are; diffusers 0.42 does not say so, and they would stand in a line, in which
    the published model never saw them. The stock pipeline shares the encoder, so it draws the same.
    """
    image = text_encoder.config.image_token_id

    def mark(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        tokens: Tensor | None = kwargs.get("input_ids")
        if tokens is not None and kwargs.get("mm_token_type_ids") is None:
            kwargs["mm_token_type_ids"] = (tokens == image).int()
        return args, kwargs

    text_encoder.register_forward_pre_hook(mark, with_kwargs=True)


class Qwen2VLProcessor(PublishedProcessor):
    """Loads and works without torchvision, which transformers wants for the video part.

    It reads and writes the files of the published class, and says so in a pipeline's index.
    """

    __module__ = "transformers"

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template)


def load_processor(name: str | Path, subfolder: str) -> Qwen2VLProcessor:
    """The processor of a pipeline's folder or Hub name; without a chat template, which the pipeline
    does not use.

    Raises:
        OSError: there is none.
        ModelError: it is damaged.
    """
    images = load_image_processor(name, subfolder)
    return Qwen2VLProcessor(images, load_tokenizer(name, subfolder))
