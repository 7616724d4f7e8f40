"""FLUX.1's names: Kontext, and UNO on dev.

BFL's code, sd-scripts and ComfyUI fuse q, k and v, and in single blocks the MLP's input with them.
ComfyUI also maps diffusers' own names to rows of the fused weights, so its file keeps the parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from likewise.policies.formats.layouts import Config, Family, Layout, Place

Table = Mapping[str, Place]  # module inside a block → its place inside a block of BFL's

QKV, QKV_MLP = (1, 1, 1), (1, 1, 1, 4)
ATTENTION: Table = {
    "attn.to_q": Place("img_attn.qkv", 0, QKV),
    "attn.to_k": Place("img_attn.qkv", 1, QKV),
    "attn.to_v": Place("img_attn.qkv", 2, QKV),
    "attn.to_out.0": Place("img_attn.proj"),
    "attn.add_q_proj": Place("txt_attn.qkv", 0, QKV),
    "attn.add_k_proj": Place("txt_attn.qkv", 1, QKV),
    "attn.add_v_proj": Place("txt_attn.qkv", 2, QKV),
    "attn.to_add_out": Place("txt_attn.proj"),
}
DOUBLE: Table = {
    **ATTENTION,
    "ff.net.0.proj": Place("img_mlp.0"),
    "ff.net.2": Place("img_mlp.2"),
    "ff_context.net.0.proj": Place("txt_mlp.0"),
    "ff_context.net.2": Place("txt_mlp.2"),
    "norm1.linear": Place("img_mod.lin"),
    "norm1_context.linear": Place("txt_mod.lin"),
}
SINGLE: Table = {
    "attn.to_q": Place("linear1", 0, QKV_MLP),
    "attn.to_k": Place("linear1", 1, QKV_MLP),
    "attn.to_v": Place("linear1", 2, QKV_MLP),
    "proj_mlp": Place("linear1", 3, QKV_MLP),
    "proj_out": Place("linear2"),
    "norm.linear": Place("modulation.lin"),
}
STOCK_WIDTH = 3072  # diffusers splits linear1 at FLUX.1-dev's width, whatever the model's is


def family(config: Config) -> Family:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Family(
        kohya=Layout(
            "lora_unet_", lambda name: kohya(name, DOUBLE, SINGLE), stock=width == STOCK_WIDTH
        ),
        comfyui=Layout("transformer.", Place, down="lora_A", up="lora_B"),
        network_module="networks.lora_flux",
        base_model="flux1",
        architecture="flux-1-dev/lora",
    )


def kohya(module: str, double: Table, single: Table) -> Place:
    """``transformer_blocks.0.attn.to_q`` → a part of ``double_blocks_0_img_attn_qkv``.

    Raises:
        ValueError: the module is in neither table.
    """
    blocks = {
        "transformer_blocks": ("double_blocks", double),
        "single_transformer_blocks": ("single_blocks", single),
    }
    kind, number, inside = [*module.split(".", 2), "", ""][:3]
    name, table = blocks.get(kind, ("", {}))
    if inside not in table:
        raise ValueError(f"kohya's layout has no name for {module}")
    place = table[inside]
    return Place(f"{name}.{number}.{place.name}".replace(".", "_"), place.slot, place.rows)


DOUBLE2: Table = {
    **ATTENTION,
    "ff.linear_in": Place("img_mlp.0"),
    "ff.linear_out": Place("img_mlp.2"),
    "ff_context.linear_in": Place("txt_mlp.0"),
    "ff_context.linear_out": Place("txt_mlp.2"),
}
SINGLE2: Table = {
    "attn.to_qkv_mlp_proj": Place("linear1"),
    "attn.to_out": Place("linear2"),
}
MODELS = {3072: "flux_2_klein_4b", 4096: "flux_2_klein_9b"}  # by width


def family2(config: Config) -> Family:
    """FLUX.2: BFL's layout fuses q, k and v in double blocks; single blocks are fused anyway.

    ComfyUI's file is kohya's: it is the one layout with alphas that ComfyUI, musubi-tuner and
    diffusers all read. (diffusers refuses alphas beside its own names, and beside
    ``diffusion_model.``.)
    """
    layout = Layout("lora_unet_", lambda name: kohya(name, DOUBLE2, SINGLE2))
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Family(layout, layout, "networks.lora_flux_2", MODELS.get(width))
