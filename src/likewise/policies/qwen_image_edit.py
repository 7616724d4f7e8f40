"""Qwen-Image-Edit Plus (2509 and later): several references, which the text encoder sees too.

The VAE tokens of all references follow the image's own in the sequence; each has its own frame
index in the rotary positions; the velocity is the transformer's output on the image's tokens
(Qwen-Image, 2508.02324). Latents are packed tokens [B, L, 4C], as the stock pipeline passes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
    CONDITION_IMAGE_SIZE,
    VAE_IMAGE_SIZE,
)
from PIL.Image import Image
from torch import Tensor

from likewise.algorithm.schedule import model_time
from likewise.policies.common.encoded import EncodedTask, Tensors, stacked
from likewise.policies.common.sampling_inputs import check_size
from likewise.policies.flux.packed import PackedLatents
from likewise.policies.flux.tokens import Grid, pack, unpack
from likewise.policies.qwen.sizes import STEP, Size, fitted, text_tokens
from likewise.policies.qwen.text_encoder import load_processor, mark_images

BLANK = " "  # the negative prompt of the model card
PROMPT_TOKENS = 64  # of a prompt of some 50 words, for planning


class QwenImageEditPolicy(PackedLatents):
    """Implements :class:`likewise.protocols.Policy` on a ``QwenImageEditPlusPipeline``.

    Args:
        pipeline: On its device, all parts in one dtype.
        height, width: Of the images to draw, pixels; multiples of 2 · VAE scale (16).
        true_cfg_scale: Classifier-free guidance, whose result gets the norm of v⁺; 1 is off.
        negative_prompt: What v⁻ is for; the text encoder sees the references with it.
        reference_area: Pixels at which references enter the VAE; their sides become multiples of
            32 at their own aspect ratio. 1024² has four times the tokens of 512².
        condition_area: Likewise, pixels at which the text encoder sees them.
        common: See `PipelinePolicy`.

    Raises:
        ValueError: a number is out of its range.
    """

    pipeline_classes = (QwenImageEditPlusPipeline,)
    max_references = 3  # what the model was trained with
    text_sees_references = True
    lora_layout: ClassVar[str] = "qwen"
    lora_presets: ClassVar = {  # modulation, embedders and the last layer stay frozen
        "attention": r".*\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)",
        "all": r".*\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|(img|txt)_mlp\.net\.(0\.proj|2))",
    }

    def __init__(
        self,
        pipeline: QwenImageEditPlusPipeline,
        height: int,
        width: int,
        *,
        true_cfg_scale: float = 4.0,
        negative_prompt: str = BLANK,
        reference_area: int = VAE_IMAGE_SIZE,
        condition_area: int = CONDITION_IMAGE_SIZE,
        **common: Any,
    ) -> None:
        multiple = 2 * pipeline.vae_scale_factor
        check_size(height, width, multiple)
        for name, area in (("reference", reference_area), ("condition", condition_area)):
            if area < STEP**2:
                raise ValueError(f"{name}_area must be at least {STEP**2} pixels, not {area}")
        super().__init__(
            pipeline, true_cfg_scale=true_cfg_scale, negative_prompt=negative_prompt, **common
        )
        if pipeline.text_encoder is not None:  # planning does without
            mark_images(pipeline.text_encoder)
        self.multiple = multiple
        self.grid = (height // multiple, width // multiple)
        self.reference_area = reference_area
        self.condition_area = condition_area

    @classmethod
    def parts(cls, name: str | Path) -> dict[str, Any]:
        """The processor: its published class has a video part, which would need torchvision."""
        return {"processor": load_processor(name, "processor")}

    def encode_text(self, prompt: str, references: Sequence[Image]) -> Tensors:
        """Hidden states [S, D] of the prompt and of the images that go with it."""
        resize = self.pipeline.image_processor.resize
        sizes = [fitted(_size(image), self.condition_area) for image in references]
        seen = [resize(image, *size) for image, size in zip(references, sizes, strict=True)]
        states, _ = self.pipeline.encode_prompt(prompt, seen, self.device)
        return {"states": states[0]}

    def encode_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        """VAE tokens [h, w, 4C] of each."""
        return tuple(self._encode_image(image) for image in references)

    def blank_task(
        self, references: Sequence[Size], prompt_tokens: int = PROMPT_TOKENS
    ) -> EncodedTask:
        """See :class:`PipelinePolicy`; the negative prompt is taken to have one token, as a blank.

        Args:
            prompt_tokens: Of the prompt, which decides how long the text is.
        """
        config = self.denoiser.config
        processor = getattr(self.pipeline.processor, "image_processor", None)
        seen = [fitted(size, self.condition_area) for size in references]

        def text(tokens: int) -> Tensors:
            length = text_tokens(seen, tokens, processor)
            return {"states": self.zeros(length, config.joint_attention_dim)}

        grids = [self._grid(fitted(size, self.reference_area)) for size in references]
        blanks = tuple({"tokens": self.zeros(*grid, config.in_channels)} for grid in grids)
        return EncodedTask(text(prompt_tokens), blanks, text(1) if self.guidance.enabled else None)

    def predict(
        self,
        x: Tensor,
        sigma: Tensor,
        texts: Sequence[Tensors],
        references: Sequence[tuple[Tensors, ...]],
    ) -> Tensor:
        images = [stacked(column, "tokens") for column in zip(*references, strict=True)]
        grids = [self.grid, *(image.shape[1:3] for image in images)]
        output = self.denoiser(
            hidden_states=torch.cat([x, *(image.flatten(1, 2) for image in images)], dim=1),
            timestep=model_time(sigma, self.dtype),
            # Prompts are not padded, so there is no mask either: as stock for a single prompt.
            encoder_hidden_states=stacked(texts, "states"),
            img_shapes=[[(1, *grid) for grid in grids]] * len(x),
            return_dict=False,
        )[0]
        return output[:, : x.shape[1]].float()

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Guidance that changes the direction of each token's velocity, but not its length."""
        guided = super().combine(positive, negative)
        wanted, present = (v.norm(dim=-1, keepdim=True) for v in (positive, guided))
        return guided * (wanted / present)

    def decode_latents(self, x: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = unpack(x.to(vae.dtype), self.grid)[:, :, None]  # one frame
        mean, std = self._statistics(latents)
        images = vae.decode(latents / (1 / std) + mean, return_dict=False)[0][:, :, 0]
        return (images.float() * 0.5 + 0.5).clamp(0, 1)

    def _encode_image(self, image: Image) -> Tensors:
        vae = self.pipeline.vae
        size = fitted(_size(image), self.reference_area)
        pixels = self.pipeline.image_processor.preprocess(image, *size)[:, :, None]  # one frame
        # The distribution's mode, not a draw: as stock, and no randomness without a seed.
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
        mean, std = self._statistics(latents)
        tokens = pack(((latents - mean) / std)[:, :, 0])
        return {"tokens": tokens[0].unflatten(0, self._grid(size))}

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's channels, to go with latents [B, C, F, h, w]."""
        config = self.pipeline.vae.config
        mean, std = latents.new_tensor([config.latents_mean, config.latents_std])[
            ..., None, None, None
        ]
        return mean, std

    def _grid(self, size: Size) -> Grid:
        return size[0] // self.multiple, size[1] // self.multiple


def _size(image: Image) -> Size:
    return image.height, image.width
