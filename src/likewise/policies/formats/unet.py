"""The UNets of SD 1.5, which kohya names as diffusers does, and of SDXL, named as Stability does.

ComfyUI reads both, with their alphas; its file is kohya's.
"""

from __future__ import annotations

import re

from likewise.policies.formats.layouts import Config, Counterpart, Family, Layout

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
SD1_TEXT_WIDTH = 768  # SD 2's UNets have another


def family(config: Config) -> Family:
    if config["addition_embed_type"] == "text_time":
        per_block = config["layers_per_block"]
        layout = Layout("lora_unet_", lambda module: sdxl(module, per_block))
        architecture = "stable-diffusion-xl-v1-base/lora"
        return Family(layout, layout, "networks.lora", "sdxl_base_v1-0", architecture)
    layout = Layout("lora_unet_", lambda module: Counterpart(module.replace(".", "_")))
    if config["cross_attention_dim"] != SD1_TEXT_WIDTH:
        return Family(layout, layout, "networks.lora")
    return Family(layout, layout, "networks.lora", "sd_v1", "stable-diffusion-v1/lora")


def sdxl(module: str, per_block: int) -> Counterpart:
    """``down_blocks.1.attentions.0.proj_in`` → ``input_blocks_4_1_proj_in``.

    Stability counts the layers of all blocks through, down- and upsamplers included.

    Args:
        per_block: Resnets in a block of the way down; the way up has one more.

    Raises:
        ValueError: the module is in neither a resnet nor an attention.
    """
    if match := _BLOCK.fullmatch(module):
        way, number, kind, layer, inside = match.groups()
        count = int(number) * (per_block + 1) + int(layer)
        block = f"input_blocks.{count + 1}" if way == "down" else f"output_blocks.{count}"
        part = int(kind == "attentions")
    elif match := _MIDDLE.fullmatch(module):
        kind, layer, inside = match.groups()
        block, part = "middle_block", 1 if kind == "attentions" else 2 * int(layer)
    else:
        raise ValueError(f"kohya's layout has no name for {module}")
    if kind == "resnets":
        inside = RESNET.get(inside, inside)
    return Counterpart(f"{block}.{part}.{inside}".replace(".", "_"))
