"""FLUX.2's names: BFL's layout fuses q, k and v in double blocks; single blocks are fused anyway.

ComfyUI's file is kohya's: it is the one layout with alphas that ComfyUI, musubi-tuner and diffusers
all read. (diffusers refuses alphas beside its own names, and beside ``diffusion_model.``.)
"""

from __future__ import annotations

from likewise.policies.formats.family import Config, Family
from likewise.policies.formats.flux import ATTENTION, Table, kohya
from likewise.policies.formats.layouts import Layout, Place

DOUBLE: Table = {
    **ATTENTION,
    "ff.linear_in": Place("img_mlp.0"),
    "ff.linear_out": Place("img_mlp.2"),
    "ff_context.linear_in": Place("txt_mlp.0"),
    "ff_context.linear_out": Place("txt_mlp.2"),
}
SINGLE: Table = {
    "attn.to_qkv_mlp_proj": Place("linear1"),
    "attn.to_out": Place("linear2"),
}
MODELS = {3072: "flux_2_klein_4b", 4096: "flux_2_klein_9b"}  # by width


def family(config: Config) -> Family:
    layout = Layout("lora_unet_", lambda name: kohya(name, DOUBLE, SINGLE))
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Family(layout, layout, "networks.lora_flux_2", MODELS.get(width))
