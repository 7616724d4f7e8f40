"""FLUX.2 klein: several references per task, and classifier-free guidance where undistilled.

One sequence holds the tokens of the image and then of each reference. Position ids have four
axes (image, row, column, word): the image being drawn has 0 on the first, reference i has
10 + 10·i; text counts on the last (docs/method.md §4). Latents x are packed tokens [B, h·w, C], as
the stock pipeline passes them: 2×2 VAE latents each, normalised by the VAE's batch norm statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from PIL import Image
from torch import Tensor

from likewise.algorithm.schedule import model_time, shifted_sigmas
from likewise.policies.common.encoded import EncodedTask, Tensors, stacked
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.sampling_inputs import check_size, check_text_length, seeded_noise
from likewise.policies.flux.tokens import scheduler_sigmas

LONGEST_TEXT = 512  # tokens, what the model was trained with
SMALLEST_REFERENCE, LARGEST_REFERENCE = 64**2, 1024**2  # pixels
ATTENTION = (
    r".*\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|to_qkv_mlp_proj)"
    r"|single_transformer_blocks\.\d+\.attn\.to_out"
)


class Flux2KleinPolicy(PipelinePolicy):
    """Implements :class:`likewise.protocols.Policy` on a ``Flux2KleinPipeline``.

    Args:
        pipeline: On its device.
        height, width: Of the images to draw, pixels; multiples of 2 · VAE scale (16).
        max_sequence_length: Tokens of the prompt in Qwen3's chat template, 1–512. Shorter prompts
            are padded, and padding counts: use what the model was trained with.
        reference_area: Pixels; larger references are scaled down to it. The default, 1024², is the
            stock pipeline's and makes 4096 tokens of each.
        true_cfg_scale: As in the base class; the default is the stock pipeline's.
        common: See :class:`PipelinePolicy`.

    Raises:
        ValueError: a number is out of its range, or guidance is asked of a distilled model.
    """

    pipeline_classes = (Flux2KleinPipeline,)
    max_references = 4  # docs.bfl.ai/guides/prompting_editing_overview
    lora_layout: ClassVar[str] = "flux2"
    # Modulation, embedders and the last layer stay frozen. A single block has one projection into
    # queries, keys, values and its MLP, and one out of attention and MLP: a LoRA on the attention
    # there is one on the MLP too.
    lora_presets: ClassVar[Mapping[str, str]] = {
        "attention": ATTENTION,
        "all": ATTENTION + r"|.*\.ff(_context)?\.linear_(in|out)",
    }

    def __init__(
        self,
        pipeline: Any,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        *,
        reference_area: int = LARGEST_REFERENCE,
        true_cfg_scale: float = 4.0,
        **common: Any,
    ) -> None:
        multiple = 2 * pipeline.vae_scale_factor
        check_size(height, width, multiple)
        check_text_length(max_sequence_length, LONGEST_TEXT)
        if reference_area < SMALLEST_REFERENCE:
            raise ValueError(
                f"reference_area must be at least {SMALLEST_REFERENCE} pixels, not {reference_area}"
            )
        if pipeline.config.is_distilled and true_cfg_scale > 1:
            # The stock pipeline would ignore it; a recipe should not say what does not happen.
            raise ValueError(
                f"this model is distilled and draws without guidance: set true_cfg_scale to 1, "
                f"not {true_cfg_scale}"
            )
        super().__init__(pipeline, true_cfg_scale=true_cfg_scale, **common)
        self.multiple = multiple
        self.grid = (height // multiple, width // multiple)
        self.max_sequence_length = max_sequence_length
        self.reference_area = reference_area

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.denoiser.config.in_channels

    def encode_text(self, prompt: str, references: Sequence[Image.Image] = ()) -> Tensors:
        """States [S, 3D] of three of Qwen3's layers, side by side."""
        states, _ = self.pipeline.encode_prompt(
            prompt, device=self.device, max_sequence_length=self.max_sequence_length
        )
        return {"states": states[0]}

    def text_limit(self) -> tuple[Any, int] | None:
        return self.pipeline.tokenizer, self.max_sequence_length

    def tokenized(self, prompt: str) -> str:
        return self.pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )

    def encode_references(self, references: Sequence[Image.Image]) -> tuple[Tensors, ...]:
        """VAE tokens [h, w, C] of each, at its own size or `reference_area`."""
        return tuple(self._encode_reference(image) for image in self._fitted(references))

    def blank_task(self, references: Sequence[tuple[int, int]]) -> EncodedTask:
        config = self.denoiser.config
        text = {"states": self.zeros(self.max_sequence_length, config.joint_attention_dim)}
        # Resized without content, so that the arithmetic of sizes stays the pipeline's own.
        fitted = self._fitted([Image.new("L", (width, height)) for height, width in references])
        tokens = [self.zeros(*self._token_grid(image), config.in_channels) for image in fitted]
        seen = tuple({"tokens": one} for one in tokens)
        return EncodedTask(text, seen, text if self.guidance.enabled else None)

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """As the float32 stock pipeline with ``torch.Generator().manual_seed(seed)`` each."""
        shape = (self.denoiser.config.in_channels, *self.grid)
        noise = seeded_noise(shape, seeds)
        return noise.flatten(2).transpose(1, 2).contiguous().to(self.device)

    def sigmas(self, num_steps: int, shift: float | None = None) -> Tensor:
        if shift is not None:
            return shifted_sigmas(num_steps, shift)
        mu = compute_empirical_mu(self.grid[0] * self.grid[1], num_steps)
        return scheduler_sigmas(self.pipeline.scheduler, num_steps, mu)

    def predict(
        self,
        x: Tensor,
        sigma: Tensor,
        texts: Sequence[Tensors],
        references: Sequence[tuple[Tensors, ...]],
    ) -> Tensor:
        states = stacked(texts, "states")
        seen = [stacked(column, "tokens").to(x.dtype) for column in zip(*references, strict=True)]
        grids = [self.grid, *(tokens.shape[1:3] for tokens in seen)]
        ids = [position_ids(10 * index, *grid) for index, grid in enumerate(grids)]
        output = self.denoiser(
            hidden_states=torch.cat([x, *(tokens.flatten(1, 2) for tokens in seen)], dim=1),
            timestep=model_time(sigma, self.dtype),
            encoder_hidden_states=states,
            txt_ids=position_ids(0, 1, 1, states.shape[1]).to(x.device),
            img_ids=torch.cat(ids).to(x.device),
            return_dict=False,
        )[0]
        return output[:, : x.shape[1]].float()

    def decode_latents(self, x: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = x.to(vae.dtype).transpose(1, 2).unflatten(2, self.grid)
        deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
        mean, deviation = (
            one.to(latents.dtype).view(1, -1, 1, 1) for one in (vae.bn.running_mean, deviation)
        )
        latents = latents * deviation + mean
        images = vae.decode(self.pipeline._unpatchify_latents(latents), return_dict=False)[0]
        return (images.float() * 0.5 + 0.5).clamp(0, 1)

    def _fitted(self, references: Sequence[Image.Image]) -> list[Image.Image]:
        """References of at most `reference_area` pixels, resized where they have more.

        Raises:
            ValueError: one has a side below 64 pixels, or is longer than 8:1.
        """
        processor = self.pipeline.image_processor
        for number, image in enumerate(references, start=1):
            try:
                processor.check_image_input(image)
            except ValueError as error:
                raise ValueError(f"reference {number}: {error}") from error
        return [
            processor._resize_if_exceeds_area(image, self.reference_area) for image in references
        ]

    def _token_grid(self, image: Image.Image) -> tuple[int, int]:
        return image.height // self.multiple, image.width // self.multiple

    def _encode_reference(self, image: Image.Image) -> Tensors:
        vae, grid = self.pipeline.vae, self._token_grid(image)
        height, width = (side * self.multiple for side in grid)
        # Cropped at the centre, not resized; and the distribution's mode, not a draw: as stock.
        pixels = self.pipeline.image_processor.preprocess(image, height, width, resize_mode="crop")
        latents = self.pipeline._encode_vae_image(pixels.to(vae.device, vae.dtype), None)
        return {"tokens": latents[0].permute(1, 2, 0)}


def position_ids(image: int, rows: int, columns: int, words: int = 1) -> Tensor:
    """Ids (image, row, column, word), float32 [rows · columns · words, 4], row-major.

    float32 even under a bfloat16 model, which would merge positions above 256.
    """
    ranges = (torch.arange(rows), torch.arange(columns), torch.arange(words))
    return torch.cartesian_prod(torch.tensor([image]), *ranges).float()
