"""Input of HPSv3: the image, and a fixed text around the prompt.

``question.txt`` is the published input format and must stay as it is, byte for byte, trailing
spaces and empty lines included: ``INSTRUCTION`` and ``prompt_with_special_token`` of the package
``hpsv3`` 1.0.0 (MIT, MizzenAI), as Qwen2-VL's chat template frames them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from likewise.pretrained.processors import load_image_processor, load_tokenizer

REWARD, IMAGE, PADDING = "<|Reward|>", "<|image_pad|>", "<|im_end|>"
PROMPT = "{text_prompt}"
TEXT = (files("likewise.rewards.hps") / "question.txt").read_text(encoding="utf-8")
PIECES = re.split(r"(<\|\w+\|>)", TEXT)  # special tokens are every second one
SPECIAL = dict.fromkeys(PIECES[1::2])

FACTOR = 28  # pixels along a side of a merged patch, one token of the language model
AREA = 256 * FACTOR**2  # in pixels, of every image, as nearly as its shape allows
MAX_RATIO = 200


class Questions:
    """Makes the model's input of images and prompts.

    Args:
        base: Directory or Hub name of a Qwen2-VL with tokenizer and image processor.

    Attributes:
        vocabulary: Number of tokens, the one that carries the reward included.

    Raises:
        ValueError: the tokenizer lacks one of Qwen2-VL's special tokens.
        OSError: there is no such base (the message is transformers').
    """

    def __init__(self, base: str | Path) -> None:
        self.tokenizer = load_tokenizer(base)
        self.processor = load_image_processor(base)
        self.tokenizer.add_tokens([REWARD], special_tokens=True)
        self.vocabulary = len(self.tokenizer)
        known = self.tokenizer.get_added_vocab()
        if missing := [token for token in SPECIAL if token not in known]:
            raise ValueError(f"base: the tokenizer of {base} has no {', '.join(missing)}")
        self.ids: dict[str, int] = {token: known[token] for token in SPECIAL}

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, Tensor]:
        """Input of a forward: B ≥ 1 images with their prompts, padded on the right.

        Returns:
            input_ids, attention_mask: int64 [B, L].
            pixel_values: float32 [P, channels · frames · side²], the patches of all images.
            image_grid_thw: int64 [B, 3], frames, rows and columns of patches.
        """
        # Resized already, so that limits of the base's own do not matter.
        patches = self.processor(
            images=[fitted(image) for image in images], do_resize=False, return_tensors="pt"
        )
        tokens = patches["image_grid_thw"].prod(1) // self.processor.merge_size**2
        ids = [self.tokens(*pair) for pair in zip(prompts, tokens.tolist(), strict=True)]
        masks = [torch.ones_like(one) for one in ids]
        return {
            "input_ids": pad_sequence(ids, True, self.ids[PADDING]),
            "attention_mask": pad_sequence(masks, True, 0),
            "pixel_values": patches["pixel_values"],
            "image_grid_thw": patches["image_grid_thw"],
        }

    def tokens(self, prompt: str, images: int) -> Tensor:
        """Token ids int64 [L] of the question, of which `images` stand for the image.

        A special token that a prompt spells is text like any other: a prompt can neither end the
        question nor place a second reward. Pieces between special tokens are never merged, so
        reading them one by one gives what reading all at once gives.
        """
        ids: list[int] = []
        for piece in PIECES:
            if piece in self.ids:
                ids += [self.ids[piece]] * (images if piece == IMAGE else 1)
            else:
                ids += self.tokenizer.encode(
                    piece.replace(PROMPT, prompt),
                    add_special_tokens=False,
                    split_special_tokens=True,
                )
        return torch.tensor(ids)


def check_prompts(prompts: Sequence[str], images: int) -> None:
    """Raise ValueError unless there is a prompt for each of the images.

    A plain string is refused: as a sequence of prompts it is its characters, and images would be
    scored for single letters, as the paper's released evaluation did.
    """
    if isinstance(prompts, str):
        raise ValueError("prompts is one string; wanted a list with a prompt per image")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"prompt {index} is not a string but {type(prompt).__name__}")
    if len(prompts) != images:
        raise ValueError(f"{images} images but {len(prompts)} prompts: give one per image")


def check_shapes(images: Sequence[Image.Image]) -> None:
    """Raise ValueError, naming the first one, if an image is more than MAX_RATIO times as long."""
    for index, image in enumerate(images):
        if not 0 < max(image.size) <= MAX_RATIO * min(image.size):
            width, height = image.size
            raise ValueError(
                f"image {index} is {width}×{height} pixels: HPSv3 takes images whose sides "
                f"differ by a factor of {MAX_RATIO} at most"
            )


def fitted(image: Image.Image) -> Image.Image:
    """The image at about AREA pixels, sides multiples of FACTOR, bicubic as PIL does it."""
    return image.resize(fitted_size(*image.size), Image.Resampling.BICUBIC)


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """Sides of an image of that shape as Qwen2-VL's ``smart_resize`` to AREA pixels rounds them.

    They are rounded up if the image, each side rounded to the nearest multiple, is too small,
    and down if it is too large.
    """
    nearest = [max(1, round(side / FACTOR)) * FACTOR for side in (width, height)]
    if math.prod(nearest) == AREA:
        return nearest[0], nearest[1]
    shrinks = math.prod(nearest) > AREA
    scale = math.sqrt(width * height / AREA) if shrinks else math.sqrt(AREA / (width * height))
    rounded: Callable[[float], int] = math.floor if shrinks else math.ceil
    sides = [side / scale if shrinks else side * scale for side in (width, height)]
    return rounded(sides[0] / FACTOR) * FACTOR, rounded(sides[1] / FACTOR) * FACTOR
