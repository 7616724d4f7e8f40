"""FLUX.1-Kontext-dev, and every other ``FluxKontextPipeline`` directory: the nano is one.

The reference's VAE tokens follow the picture's own in the sequence, with index 1 in their
position ids; the velocity is the transformer's output on the picture's tokens (Labs et al.,
2506.15742; METHOD §4). Latents are packed tokens [B, L, 4C], as the stock pipeline passes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxKontextPipeline
from torch import Tensor

from likewise.algorithm.schedule import shifted_sigmas
from likewise.policies.flux_condition import FluxCondition, encode_task, encode_text
from likewise.policies.flux_tokens import Grid, pack, pipeline_sigmas, unpack
from likewise.policies.flux_velocity import Guidance, batch_velocity
from likewise.policies.trainable import TrainablePolicy, align
from likewise.types import Task

LORA_PRESETS = {  # whole module names; modulation, embedders and the last layer stay frozen
    "attention": r".*\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)",
    "all": r".*\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)",
}
LONGEST_TEXT = 512  # T5 tokens, FLUX's limit


class FluxKontextPolicy(TrainablePolicy):
    """Implements :class:`likewise.protocols.Policy` on a ``FluxKontextPipeline``.

    Args:
        pipeline: On its device, all parts in one dtype. The policy freezes it.
        height, width: Of the pictures to draw, pixels; multiples of 2 · VAE scale (16 for FLUX.1).
        max_sequence_length: T5 tokens, 1–512. Padding counts in FLUX: use what the model was
            trained with.
        guidance: Embedded guidance; ignored by models without guidance embedding.
        true_cfg_scale: Classifier-free guidance against `negative_prompt`, ≥ 1; 1 is off. Above 1
            every velocity costs two forwards.
        batched_cfg: Do both in one forward of twice the batch: faster on small models, and equal
            up to rounding instead of exactly.
        auto_resize: Take references at Kontext's preferred resolutions (about 1 MP), not at their
            own size.
        gradient_checkpointing: Recompute activations in the backward pass.

    Raises:
        ValueError: a number is out of its range.
    """

    parameterization = "flow"

    def __init__(
        self,
        pipeline: FluxKontextPipeline,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        *,
        guidance: float = 3.5,
        true_cfg_scale: float = 1.0,
        negative_prompt: str = "",
        batched_cfg: bool = False,
        auto_resize: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        multiple = 2 * pipeline.vae_scale_factor
        if height < 1 or width < 1 or height % multiple or width % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple}, not {height} and {width}"
            )
        if not 1 <= max_sequence_length <= LONGEST_TEXT:
            raise ValueError(
                f"max_sequence_length must be 1 to {LONGEST_TEXT}, not {max_sequence_length}"
            )
        super().__init__(pipeline, LORA_PRESETS)
        self.grid: Grid = (height // multiple, width // multiple)
        self.max_sequence_length = max_sequence_length
        self.guidance = Guidance(guidance, true_cfg_scale, batched_cfg)
        self.negative_prompt = negative_prompt
        self.auto_resize = auto_resize
        if gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> FluxKontextPolicy:
        """Load a directory or Hub name; `options` are those of the class.

        Raises:
            ValueError: it is another pipeline, or an option is out of its range.
            OSError: nothing is there.
        """
        kind = FluxKontextPipeline.load_config(path_or_name)["_class_name"]
        if kind != FluxKontextPipeline.__name__:
            raise ValueError(f"{path_or_name} is a {kind}, not a FluxKontextPipeline")
        pipeline = FluxKontextPipeline.from_pretrained(path_or_name, dtype=dtype).to(device)
        align(pipeline)
        return cls(pipeline, height, width, max_sequence_length, **options)

    @torch.no_grad()
    def encode(self, tasks: Sequence[Task]) -> FluxCondition:
        """One by one, so that a row does not depend on the batch it was encoded in."""
        length = self.max_sequence_length
        rows = tuple(encode_task(self.pipeline, task, length, self.auto_resize) for task in tasks)
        if not self.guidance.against_negative:
            return FluxCondition(rows)
        return FluxCondition(rows, encode_text(self.pipeline, self.negative_prompt, length))

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """As the float32 stock pipeline with ``torch.Generator().manual_seed(seed)`` per row."""
        channels = self.transformer.config.in_channels // 4
        shape = (channels, 2 * self.grid[0], 2 * self.grid[1])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(shape, generator=one) for one in generators])
        return pack(noise).to(self.device)

    def sigmas(self, num_steps: int, shift: float | None = None) -> Tensor:
        if shift is not None:
            return shifted_sigmas(num_steps, shift)
        return pipeline_sigmas(self.pipeline.scheduler, num_steps, self.grid[0] * self.grid[1])

    def velocity(self, x: Tensor, sigma: float | Tensor, condition: FluxCondition) -> Tensor:
        with self.autocast():
            return batch_velocity(
                self.transformer, x, sigma, condition, self.grid, self.guidance, self.dtype
            )

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = unpack(x.to(vae.dtype), self.grid)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        pictures = vae.decode(latents, return_dict=False)[0]
        return (pictures.float() * 0.5 + 0.5).clamp(0, 1)
