"""Qwen2-VL's processor of texts and images, without the part that takes videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen2VLProcessor as PublishedProcessor

from likewise.pretrained.processors import load_image_processor, load_tokenizer


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
