"""Qwen-Image's names: diffusers', with underscores for musubi-tuner, after a prefix for ComfyUI."""

from __future__ import annotations

from likewise.policies.formats.layouts import Config, Counterpart, Family, Layout


def family(_: Config) -> Family:
    return Family(
        kohya=Layout("lora_unet_", kohya),
        comfyui=Layout("diffusion_model.", Counterpart),
        network_module="networks.lora_qwen_image",
        base_model="qwen_image_edit",
        architecture="Qwen-Image-Edit-Plus/lora",
    )


def kohya(module: str) -> Counterpart:
    """musubi-tuner's name of a module.

    Raises:
        ValueError: the module is outside the blocks, where musubi-tuner has no LoRA.
    """
    if not module.startswith("transformer_blocks."):
        raise ValueError(f"kohya's layout has no name for {module}")
    return Counterpart(module.replace(".", "_"))
