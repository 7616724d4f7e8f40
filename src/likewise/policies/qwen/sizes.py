"""How large Qwen-Image-Edit takes references, and how many tokens its text has with them."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

Size = tuple[int, int]  # height and width in pixels
STEP = 32  # of the sides of references, pixels

# What the prompt template adds after its first 64 tokens, which the pipeline drops: the end of the
# user's turn and the start of the assistant's, and around each image "Picture 1: ", a start and
# an end. Counted with Qwen2's tokenizer.
AROUND_PROMPT, AROUND_IMAGE = 5, 7


def fitted(size: Size, area: int) -> Size:
    """The size nearest to `area` pixels at this aspect ratio, sides multiples of 32, as stock.

    Raises:
        ValueError: the shorter side would be 0.
    """
    height, width = size
    new_width, new_height = calculate_dimensions(area, width / height)
    if not new_width or not new_height:
        raise ValueError(
            f"a reference of {width}×{height} pixels is too long: scaled to an area of {area} "
            f"pixels, its shorter side is less than {STEP // 2}"
        )
    return new_height, new_width


def image_tokens(size: Size, processor: Qwen2VLImageProcessorPil | None) -> int:
    """Tokens of an image of this size in the text encoder.

    Args:
        processor: The pipeline's; None for the published settings.
    """
    processor = processor or Qwen2VLImageProcessorPil()
    return int(processor.get_number_of_image_patches(*size)) // processor.merge_size**2


def text_tokens(
    sizes: Sequence[Size], prompt_tokens: int, processor: Qwen2VLImageProcessorPil | None
) -> int:
    """Tokens of a prompt's embedding, with references that the text encoder sees at `sizes`."""
    images = sum(AROUND_IMAGE + image_tokens(size, processor) for size in sizes)
    return AROUND_PROMPT + images + prompt_tokens
