"""What every policy of the FLUX.1 family does: text, tokens, schedule, embedded guidance, VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from torch import Tensor

from likewise.algorithm.schedule import model_time
from likewise.policies.common.encoded import EncodedTask, Tensors, stacked
from likewise.policies.common.sampling_inputs import check_size, check_text_length
from likewise.policies.flux.packed import PackedLatents
from likewise.policies.flux.tokens import Grid, pack, position_ids, unpack

LONGEST_TEXT = 512  # T5 tokens, FLUX's limit
USUAL_GUIDANCE = 3.5  # FLUX.1-dev's


class FluxPolicy(PackedLatents):
    """FLUX.1's transformer on the image's tokens, followed by those of its references.

    A subclass says where the references are: :meth:`reference_ids`. The velocity is the output on
    the first tokens, those of the image.

    Args:
        pipeline: On its device.
        height, width: Of the images to draw, pixels; multiples of 2 · VAE scale (16 for FLUX.1).
        max_sequence_length: T5 tokens, 1–512. Padding counts in FLUX: use what the model was
            trained with.
        guidance: Embedded guidance, of models that have an input for it.
        common: See `PipelinePolicy`.

    Raises:
        ValueError: a number is out of its range, or the model has no input for this guidance.
    """

    lora_layout = "flux"
    lora_presets: ClassVar[
        Mapping[str, str]
    ] = {  # modulation, embedders and the last layer stay frozen
        "attention": r".*\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)",
        "all": r".*\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)",
    }

    def __init__(
        self,
        pipeline: Any,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        *,
        guidance: float = USUAL_GUIDANCE,
        **common: Any,
    ) -> None:
        multiple = 2 * pipeline.vae_scale_factor
        check_size(height, width, multiple)
        check_text_length(max_sequence_length, LONGEST_TEXT)
        if not pipeline.transformer.config.guidance_embeds and guidance != USUAL_GUIDANCE:
            raise ValueError(
                f"policy.guidance {guidance:g} has no effect on this model, which has no input for "
                "embedded guidance: leave it out (policy.true_cfg_scale guides any model)"
            )
        super().__init__(pipeline, **common)
        self.multiple = multiple
        self.grid = (height // multiple, width // multiple)
        self.max_sequence_length = max_sequence_length
        self.embedded_guidance = guidance

    def reference_ids(self, grids: Sequence[Grid]) -> list[Tensor]:
        """Position ids [h·w, 3] of each reference, given their token grids."""
        raise NotImplementedError

    def encode_text(self, prompt: str, references: Sequence[Image] = ()) -> Tensors:
        """T5 states [S, D] of the first S tokens, and CLIP's pooled state [P]."""
        states, pooled, _ = self.pipeline.encode_prompt(
            prompt, max_sequence_length=self.max_sequence_length, device=self.device
        )
        return {"states": states[0], "pooled": pooled[0]}

    def text_limit(self) -> tuple[Any, int] | None:
        return self.pipeline.tokenizer_2, self.max_sequence_length

    def encode_image(self, image: Image, height: int, width: int) -> Tensors:
        """VAE tokens [h, w, 4C] of a reference, resized to these pixels."""
        vae = self.pipeline.vae
        pixels = self.pipeline.image_processor.preprocess(image, height, width)
        # The distribution's mode, not a draw: as stock, and no randomness without a seed.
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        grid = (height // self.multiple, width // self.multiple)
        return {"tokens": pack(latents)[0].unflatten(0, grid)}

    def blank_texts(self) -> Tensors:
        """Zeros like :meth:`encode_text`'s."""
        config, length = self.denoiser.config, self.max_sequence_length
        return {
            "states": self.zeros(length, config.joint_attention_dim),
            "pooled": self.zeros(config.pooled_projection_dim),
        }

    def blank_tokens(self, height: int, width: int) -> Tensors:
        """Zeros like :meth:`encode_image`'s."""
        grid = (height // self.multiple, width // self.multiple)
        return {"tokens": self.zeros(*grid, self.denoiser.config.in_channels)}

    def blank(self, references: tuple[Tensors, ...]) -> EncodedTask:
        """Blank texts with these references."""
        text = self.blank_texts()
        return EncodedTask(text, references, text if self.guidance.enabled else None)

    def predict(
        self,
        x: Tensor,
        sigma: Tensor,
        texts: Sequence[Tensors],
        references: Sequence[tuple[Tensors, ...]],
    ) -> Tensor:
        grids: list[Grid] = [(*one["tokens"].shape[:2],) for one in references[0]]
        others = [
            torch.stack([own[number]["tokens"].flatten(0, 1) for own in references])
            for number in range(len(grids))
        ]
        states = stacked(texts, "states")
        ids = torch.cat([position_ids(self.grid, 0), *self.reference_ids(grids)])
        scale = None
        if self.denoiser.config.guidance_embeds:
            scale = torch.full((len(x),), self.embedded_guidance, device=x.device)
        output = self.denoiser(
            hidden_states=torch.cat([x, *others], dim=1),
            timestep=model_time(sigma, self.dtype),
            guidance=scale,
            pooled_projections=stacked(texts, "pooled"),
            encoder_hidden_states=states,
            txt_ids=torch.zeros(states.shape[1], 3, device=x.device),
            img_ids=ids.to(x.device),
            return_dict=False,
        )[0]
        return output[:, : x.shape[1]].float()

    def decode_latents(self, x: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = unpack(x.to(vae.dtype), self.grid)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        images = vae.decode(latents, return_dict=False)[0]
        return (images.float() * 0.5 + 0.5).clamp(0, 1)
