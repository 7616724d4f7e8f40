"""Stable Diffusion 1.5 and SDXL with an IP-Adapter: subject encoder → UNet.

A CLIP image encoder embeds the reference, and the UNet's cross-attentions see it beside the text
(``added_cond_kwargs["image_embeds"]``; docs/method.md §4). The model predicts ε or v at one of 1000
timesteps, and is sampled by DDIM. Latents x are the VAE's, [B, 4, h, w].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL.Image import Image
from torch import Tensor

from likewise.algorithm.schedule import nearest_timestep, variance_preserving_sigma
from likewise.policies.common.encoded import EncodedTask, Tensors, stacked
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.sampling_inputs import check_size, seeded_noise
from likewise.policies.sd.ddim_levels import ddim_scheduler, step_levels
from likewise.policies.sd.ip_adapter import load_ip_adapter, takes_hidden_states

STOCK_MULTIPLE = 8  # pixels; what stock pipelines demand of height and width, whatever their VAE
ATTENTION = r"attn[12]\.(to_[qkv]|to_out\.0)"


class SdIpAdapterPolicy(PipelinePolicy):
    """Implements :class:`likewise.protocols.Policy` on a Stable Diffusion pipeline.

    Args:
        pipeline: On its device. Its scheduler is replaced by DDIM with the same settings.
        height, width: Of the images to draw, pixels; multiples of 8.
        ip_adapter: Folder or Hub name of the IP-Adapter to load; None: the pipeline has one.
        ip_adapter_weights: Its safetensors file, as a path in there.
        image_encoder: Folder of the CLIP image encoder it was made for, as a path in there.
        ip_adapter_scale: Weight of the attention to the reference beside that to the text, > 0.
        guidance_scale: Of classifier-free guidance, whose other half sees neither the prompt nor
            the reference; the default is the stock SD 1.5 pipeline's (SDXL's is 5).
        batched_cfg: Both halves in one forward, as the stock pipelines do.
        common: See :class:`PipelinePolicy`.

    Raises:
        ValueError: a number is out of its range, the IP-Adapter does not fit, or the model cannot
            be sampled by DDIM.
    """

    pipeline_classes = (StableDiffusionPipeline, StableDiffusionXLPipeline)
    denoiser_name = "unet"
    unused_parts = ("safety_checker",)
    max_references = 4  # their tokens follow each other; the published ones were trained with one
    lora_layout: ClassVar[str] = "unet"
    lora_presets: ClassVar[
        dict[str, str]
    ] = {  # the IP-Adapter's own keys, values and projection stay frozen
        "attention": rf".*\.transformer_blocks\.\d+\.{ATTENTION}",
        "all": r".*\.attentions\.\d+\.(proj_in|proj_out|transformer_blocks\.\d+\."
        rf"({ATTENTION}|ff\.net\.(0\.proj|2)))",
    }

    def __init__(
        self,
        pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline,
        height: int,
        width: int,
        *,
        ip_adapter: str | None = None,
        ip_adapter_weights: str = "models/ip-adapter_sd15.safetensors",
        image_encoder: str = "models/image_encoder",
        ip_adapter_scale: float = 1.0,
        guidance_scale: float = 7.5,
        batched_cfg: bool = True,
        **common: Any,
    ) -> None:
        multiple = max(STOCK_MULTIPLE, pipeline.vae_scale_factor)
        check_size(height, width, multiple)
        if not (ip_adapter_scale > 0 and math.isfinite(ip_adapter_scale)):
            raise ValueError(f"ip_adapter_scale must be positive, not {ip_adapter_scale}")
        if pipeline.unet.config.time_cond_proj_dim is not None:
            raise ValueError("this UNet is distilled and has its guidance embedded (LCM): no DDIM")
        pipeline.scheduler = ddim_scheduler(pipeline.scheduler)
        if ip_adapter is not None:
            load_ip_adapter(pipeline, ip_adapter, ip_adapter_weights, image_encoder)
        self.hidden_states = takes_hidden_states(pipeline)
        pipeline.set_ip_adapter_scale(ip_adapter_scale)
        super().__init__(pipeline, true_cfg_scale=guidance_scale, batched_cfg=batched_cfg, **common)
        self.parameterization = pipeline.scheduler.config.prediction_type
        self.size = (height, width)
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        levels = variance_preserving_sigma(pipeline.scheduler.alphas_cumprod)
        self.levels = levels.float().to(self.device)  # σ of each timestep

    def train_all(self, keep_reference: bool = True, wait: bool = False) -> None:
        """Raises ValueError: diffusers cannot read a UNet back that has an IP-Adapter in it."""
        raise ValueError("a UNet with an IP-Adapter cannot be trained in full: use a LoRA")

    @property
    def latent_shape(self) -> tuple[int, ...]:
        scale = self.pipeline.vae_scale_factor
        return self.denoiser.config.in_channels, *(side // scale for side in self.size)

    def encode_text(self, prompt: str, references: Sequence[Image] = ()) -> Tensors:
        """CLIP's states [S, D] of a prompt cut or padded to S tokens; SDXL: and pooled ones [P].

        SDXL was trained with zeros instead of the empty prompt (``force_zeros_for_empty_prompt``).
        """
        if not self.is_xl:
            return {"states": self.pipeline.encode_prompt(prompt, self.device, 1, False)[0][0]}
        states, _, pooled, _ = self.pipeline.encode_prompt(
            prompt, device=self.device, do_classifier_free_guidance=False
        )
        if not prompt and self.pipeline.config.force_zeros_for_empty_prompt:
            states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
        return {"states": states[0], "pooled": pooled[0]}

    def text_limit(self) -> tuple[Any, int] | None:
        return self.pipeline.tokenizer, self.pipeline.tokenizer.model_max_length

    def encode_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        """CLIP's embedding of each image, and of none: [D], or states [S, D] by the adapter."""
        shown, none = self.pipeline.encode_image(
            list(references), self.device, 1, self.hidden_states
        )
        return tuple({"shown": a, "none": b} for a, b in zip(shown, none, strict=True))

    def negative_references(self, references: tuple[Tensors, ...]) -> tuple[Tensors, ...]:
        return tuple({"shown": one["none"]} for one in references)

    def blank_task(self, references: Sequence[tuple[int, int]]) -> EncodedTask:
        unet, clip = self.denoiser.config, self.pipeline.image_encoder.config
        length = self.pipeline.text_encoder.config.max_position_embeddings
        text = {"states": self.zeros(length, unet.cross_attention_dim)}
        if self.is_xl:
            times = 6 * unet.addition_time_embed_dim
            pooled = unet.projection_class_embeddings_input_dim - times
            text["pooled"] = self.zeros(pooled)
        patches = (clip.image_size // clip.patch_size) ** 2
        shape = (patches + 1, clip.hidden_size) if self.hidden_states else (clip.projection_dim,)
        image = {"shown": self.zeros(*shape), "none": self.zeros(*shape)}
        return EncodedTask(
            text, (image,) * len(references), text if self.guidance.enabled else None
        )

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """As the float32 stock pipeline with ``torch.Generator().manual_seed(seed)`` each."""
        return seeded_noise(self.latent_shape, seeds).to(self.device)  # DDIM starts at std 1

    def sigmas(self, num_steps: int, shift: float | None = None) -> Tensor:
        """√(1 − ᾱ), float64 [T+1], at the timesteps that the pipeline's scheduler visits."""
        if shift is not None:
            raise ValueError(
                f"shift {shift}: a diffusion's noise levels cannot be shifted, leave it out"
            )
        return step_levels(self.pipeline.scheduler, num_steps)

    def predict(
        self,
        x: Tensor,
        sigma: Tensor,
        texts: Sequence[Tensors],
        references: Sequence[tuple[Tensors, ...]],
    ) -> Tensor:
        seen = torch.stack([stacked(own, "shown") for own in references])  # [b, images, …]
        added: dict[str, Any] = {"image_embeds": [seen]}
        if self.is_xl:  # sizes before and after cropping, and where it was cropped: not at all
            added["text_embeds"] = stacked(texts, "pooled")
            sizes = torch.tensor([[*self.size, 0, 0, *self.size]], device=x.device)
            added["time_ids"] = sizes.float().expand(len(x), -1)
        output = self.denoiser(
            x,
            nearest_timestep(sigma, self.levels),
            encoder_hidden_states=stacked(texts, "states"),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output.float()

    def decode_latents(self, x: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # As stock: SDXL's VAE overflows in float16.
        upcast = self.is_xl and vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.float()
        images = vae.decode(x.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        if upcast:
            vae.half()
        return (images.float() * 0.5 + 0.5).clamp(0, 1)
