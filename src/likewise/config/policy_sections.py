"""The policy of a recipe: which generator, and how it runs. This module does not import torch.

Fields other than `kind` and `model` are keyword arguments of the policy's class, by the same names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from likewise.config.section import Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DTYPE = "of frozen weights and the forward; adapters are float32. auto: bfloat16 where it is fast"
LongText = Annotated[int, Field(ge=1, le=512)]


class PolicySection(Section):
    """What every policy on a diffusers pipeline has."""

    model: str = Field(description="shipped model, directory, or Hub name")
    height: PositiveInt = Field(512, le=16384, description="pixels; a multiple of 16, for SD of 8")
    width: PositiveInt = Field(512, le=16384, description="pixels; a multiple of 16, for SD of 8")
    dtype: Dtype = Field("bfloat16", description=DTYPE)
    quantization: Literal["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"] | None = Field(
        None, description="of the frozen denoiser; null: none"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, about 1/3 more time")
    offload_activations: bool = Field(
        False, description="what gradient_checkpointing keeps waits in the CPU's memory"
    )
    compile: bool = Field(
        False, description="torch.compile per block; ratios are then 1 up to rounding only"
    )
    attention: str | None = Field(
        None, description="diffusers' attention backend, such as flash; null: torch's own"
    )
    vae_tiling: bool = Field(
        False, description="encode and decode large images in tiles, whose seams rewards see"
    )
    offload: bool = Field(False, description="encoders and VAE wait on the CPU between uses")
    cache: str | None = Field(
        None, description="folder for embeddings of prompts and references; null: none"
    )

    @property
    def forwards(self) -> int:
        """Forwards of the denoiser per velocity: guidance needs one for the negative prompt too."""
        return 2 if getattr(self, "true_cfg_scale", 1.0) > 1 else 1

    @property
    def resizes_references(self) -> bool:
        """Whether the policy has a size of its own for references of any size and shape."""
        return True


class Guided(PolicySection):
    """A policy with optional classifier-free guidance."""

    true_cfg_scale: float = Field(
        1.0, ge=1, le=1e3, description="classifier-free guidance; 1 is off"
    )
    negative_prompt: str = ""
    batched_cfg: bool = Field(False, description="both halves of true CFG in one forward")


class Flux(Guided):
    """The FLUX.1 family."""

    max_sequence_length: LongText = Field(512, description="T5 tokens")
    guidance: float = Field(
        3.5, ge=0, le=1e3, description="embedded guidance; others are refused without that input"
    )


class FluxKontext(Flux):
    """FLUX.1-Kontext-dev, or any other directory of a ``FluxKontextPipeline``."""

    kind: Literal["flux-kontext"] = "flux-kontext"
    model: str = Field("nano-kontext", description="shipped model, directory, or Hub name")
    height: PositiveInt = Field(64, le=16384, description="pixels; a multiple of 16 for FLUX.1")
    width: PositiveInt = Field(64, le=16384, description="pixels; a multiple of 16 for FLUX.1")
    max_sequence_length: LongText = Field(16, description="T5 tokens")
    dtype: Dtype = Field("float32", description=DTYPE)
    auto_resize: bool = Field(False, description="references at Kontext's preferred sizes")

    @property
    def resizes_references(self) -> bool:
        return self.auto_resize


class FluxUno(Flux):
    """UNO on FLUX.1-dev: several references, at diagonal offsets (2504.02160)."""

    kind: Literal["flux-uno"] = "flux-uno"
    model: str = Field("black-forest-labs/FLUX.1-dev", description="directory or Hub name")
    uno_lora: str | None = Field(
        "bytedance-research/UNO/dit_lora.safetensors",
        description="UNO's published LoRA: a file, or owner/repository/file on the Hub",
    )
    merge_uno: bool = Field(True, description="into the weights; false: beside them (quantised)")
    reference_size: PositiveInt | None = Field(
        None, description="longer side, pixels; null: 512, or 320 for several references (UNO)"
    )


class Flux2Klein(Guided):
    """FLUX.2 klein: several references."""

    kind: Literal["flux2-klein"] = "flux2-klein"
    model: str = Field(
        "black-forest-labs/FLUX.2-klein-base-4B", description="directory or Hub name"
    )
    max_sequence_length: LongText = Field(512, description="Qwen3 tokens; padding counts")
    reference_area: int = Field(
        1024**2, ge=64**2, description="pixels; larger references are scaled down to it"
    )
    true_cfg_scale: float = Field(
        4.0,
        ge=1,
        le=1e3,
        description="classifier-free guidance; 1 is off, as distilled models need it",
    )


class SdIpAdapter(PolicySection):
    """Stable Diffusion 1.5 or SDXL with an IP-Adapter: text and subject encoder, UNet."""

    kind: Literal["sd-ip-adapter"] = "sd-ip-adapter"
    model: str = Field(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", description="directory or Hub name"
    )
    ip_adapter: str | None = Field(
        "h94/IP-Adapter", description="directory or Hub name; null: the pipeline has one already"
    )
    ip_adapter_weights: str = Field(
        "models/ip-adapter_sd15.safetensors", description="file in it; safetensors only"
    )
    image_encoder: str = Field("models/image_encoder", description="folder in it")
    ip_adapter_scale: PositiveFloat = Field(1.0, description="weight of the subject's attention")
    guidance_scale: float = Field(
        7.5, ge=1, le=1e3, description="classifier-free guidance; 1 is off"
    )
    negative_prompt: str = ""
    batched_cfg: bool = Field(True, description="both halves in one forward, as stock does")

    @property
    def forwards(self) -> int:
        return 2 if self.guidance_scale > 1 else 1


class QwenImageEdit(PolicySection):
    """Qwen-Image-Edit Plus: several references, which its text encoder sees too."""

    kind: Literal["qwen-image-edit"] = "qwen-image-edit"
    model: str = Field("Qwen/Qwen-Image-Edit-2509", description="directory or Hub name")
    true_cfg_scale: float = Field(
        4.0, ge=1, le=1e3, description="classifier-free guidance with rescaled norm; 1 is off"
    )
    negative_prompt: str = " "
    reference_area: int = Field(1024**2, ge=1024, description="pixels of a reference in the VAE")
    condition_area: int = Field(
        384**2, ge=1024, description="pixels of a reference in the text encoder"
    )


class Custom(PolicySection):
    """A custom policy: a class that is built like the shipped ones."""

    kind: Literal["custom"] = "custom"
    target: str = Field(pattern=r"^[\w.]+:\w+$", description="module:class")
    options: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="further keyword arguments of the class"
    )


Policy = FluxKontext | FluxUno | Flux2Klein | SdIpAdapter | QwenImageEdit | Custom
