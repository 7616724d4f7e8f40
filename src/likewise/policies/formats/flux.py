"""FLUX.1's names: Kontext, and UNO on dev.

BFL's code, sd-scripts and ComfyUI fuse q, k and v, and in single blocks the MLP's input with them.
ComfyUI also maps diffusers' own names to rows of the fused weights, so its file keeps the parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from likewise.policies.formats.layouts import Config, Counterpart, Family, Layout

# Module inside a block of diffusers → its counterpart inside a block of BFL's.
Table = Mapping[str, Counterpart]

QKV, QKV_MLP = (1, 1, 1), (1, 1, 1, 4)
ATTENTION: Table = {
    "attn.to_q": Counterpart("img_attn.qkv", 0, QKV),
    "attn.to_k": Counterpart("img_attn.qkv", 1, QKV),
    "attn.to_v": Counterpart("img_attn.qkv", 2, QKV),
    "attn.to_out.0": Counterpart("img_attn.proj"),
    "attn.add_q_proj": Counterpart("txt_attn.qkv", 0, QKV),
    "attn.add_k_proj": Counterpart("txt_attn.qkv", 1, QKV),
    "attn.add_v_proj": Counterpart("txt_attn.qkv", 2, QKV),
    "attn.to_add_out": Counterpart("txt_attn.proj"),
}
DOUBLE: Table = {
    **ATTENTION,
    "ff.net.0.proj": Counterpart("img_mlp.0"),
    "ff.net.2": Counterpart("img_mlp.2"),
    "ff_context.net.0.proj": Counterpart("txt_mlp.0"),
    "ff_context.net.2": Counterpart("txt_mlp.2"),
    "norm1.linear": Counterpart("img_mod.lin"),
    "norm1_context.linear": Counterpart("txt_mod.lin"),
}
SINGLE: Table = {
    "attn.to_q": Counterpart("linear1", 0, QKV_MLP),
    "attn.to_k": Counterpart("linear1", 1, QKV_MLP),
    "attn.to_v": Counterpart("linear1", 2, QKV_MLP),
    "proj_mlp": Counterpart("linear1", 3, QKV_MLP),
    "proj_out": Counterpart("linear2"),
    "norm.linear": Counterpart("modulation.lin"),
}
STOCK_WIDTH = 3072  # diffusers splits linear1 at FLUX.1-dev's width, whatever the model's is


def family(config: Config) -> Family:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Family(
        kohya=Layout(
            "lora_unet_", lambda name: kohya(name, DOUBLE, SINGLE), stock=width == STOCK_WIDTH
        ),
        comfyui=Layout("transformer.", Counterpart, down="lora_A", up="lora_B"),
        network_module="networks.lora_flux",
        base_model="flux1",
        architecture="flux-1-dev/lora",
    )


def kohya(module: str, double: Table, single: Table) -> Counterpart:
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
    found = table[inside]
    return Counterpart(f"{name}.{number}.{found.name}".replace(".", "_"), found.slot, found.rows)


DOUBLE2: Table = {
    **ATTENTION,
    "ff.linear_in": Counterpart("img_mlp.0"),
    "ff.linear_out": Counterpart("img_mlp.2"),
    "ff_context.linear_in": Counterpart("txt_mlp.0"),
    "ff_context.linear_out": Counterpart("txt_mlp.2"),
}
SINGLE2: Table = {
    "attn.to_qkv_mlp_proj": Counterpart("linear1"),
    "attn.to_out": Counterpart("linear2"),
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
