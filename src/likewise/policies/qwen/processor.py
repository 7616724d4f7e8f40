"""Qwen2-VL's processor of texts and pictures, without the part that takes videos."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLProcessor as PublishedProcessor


class Qwen2VLProcessor(PublishedProcessor):
    """Loads and works without torchvision, which transformers wants for the video part.

    It reads and writes the files of the published class, and says so in a pipeline's index.
    """

    __module__ = "transformers"

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template)
