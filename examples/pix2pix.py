"""InstructPix2Pix (Brooks et al., 2211.09800) as a policy: a UNet that sees an image to edit.

The reference's latents are further channels of the UNet's input. Guidance is by the prompt alone,
what the stock pipeline calls ``image_guidance_scale=1``.
"""

from typing import ClassVar

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from likewise.algorithm.schedule import nearest_timestep, variance_preserving_sigma
from likewise.policies.common.encoded import EncodedTask, stacked
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.sd.ddim_levels import ddim_scheduler, step_levels


class Pix2PixPolicy(PipelinePolicy):
    pipeline_classes = (StableDiffusionInstructPix2PixPipeline,)
    unused_parts = ("safety_checker",)  # not loaded
    denoiser_name = "unet"  # the part that is trained
    parameterization = "epsilon"  # what it predicts; flow models: "flow"
    lora_layout = "unet"  # for export to other programs
    lora_presets: ClassVar = {
        "attention": r".*\.attn[12]\.(to_[qkv]|to_out\.0)",
        "all": r".*\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)",
    }

    def __init__(self, pipeline, height, width, **common):
        super().__init__(pipeline, **common)
        if height % 8 or width % 8:
            raise ValueError(f"height and width must be multiples of 8, not {height} and {width}")
        self.height, self.width = height, width
        pipeline.scheduler = ddim_scheduler(pipeline.scheduler)
        levels = variance_preserving_sigma(pipeline.scheduler.alphas_cumprod)
        self.levels = levels.float().to(self.device)  # σ of each of the model's 1000 timesteps

    @property
    def latent_shape(self):
        scale = self.pipeline.vae_scale_factor
        return self.pipeline.vae.config.latent_channels, self.height // scale, self.width // scale

    def encode_text(self, prompt, references):
        tokens = self.pipeline.tokenizer(
            prompt, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return {"states": self.pipeline.text_encoder(tokens.to(self.device))[0][0]}

    def encode_references(self, references):
        vae, prepare = self.pipeline.vae, self.pipeline.image_processor.preprocess
        pixels = [prepare(one, self.height, self.width, resize_mode="crop") for one in references]
        latents = [vae.encode(one.to(vae.device, vae.dtype)).latent_dist.mode() for one in pixels]
        return tuple({"latents": one[0]} for one in latents)

    def blank_task(self, references):
        length = self.pipeline.text_encoder.config.max_position_embeddings
        text = {"states": self.zeros(length, self.denoiser.config.cross_attention_dim)}
        latents = {"latents": self.zeros(*self.latent_shape)}
        negative = text if self.guidance.enabled else None
        return EncodedTask(text, (latents,) * len(references), negative)

    def initial_noise(self, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = [torch.randn(self.latent_shape, generator=one) for one in generators]
        return torch.stack(noise).to(self.device)

    def sigmas(self, num_steps, shift=None):
        if shift is not None:
            raise ValueError("rollout.shift: a diffusion's noise levels cannot be shifted")
        return step_levels(self.pipeline.scheduler, num_steps)

    def predict(self, x, sigma, texts, references):
        seen = torch.stack([one[0]["latents"] for one in references])
        time, states = nearest_timestep(sigma, self.levels), stacked(texts, "states")
        return self.denoiser(torch.cat([x, seen], 1), time, states, return_dict=False)[0].float()

    def decode_latents(self, x):
        vae = self.pipeline.vae
        images = vae.decode(x.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return (images.float() * 0.5 + 0.5).clamp(0, 1)
