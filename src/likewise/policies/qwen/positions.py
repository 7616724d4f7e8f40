"""Where the text encoder sees images: in two dimensions, as it was trained."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


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
