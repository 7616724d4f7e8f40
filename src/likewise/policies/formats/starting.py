"""Beginning with an adapter that another run or program trained, whatever format it is in.

Its product up·down is kept exactly: a smaller rank is filled up with directions that do nothing
yet, and another scale is multiplied into `up`.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from likewise.policies.common.lora import Lora, Part
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.stored_lora import LORA_FILE, METADATA_KEY
from likewise.policies.formats.layouts import Layout, part_rows
from likewise.policies.formats.lora_files import family_of
from likewise.tensors import load

PEFT_FILE, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
TEXT_ENCODERS = ("text_encoder", "lora_te", "te1_", "te2_")
_HALF = r"(?P<half>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)(\.default)?\.weight"
_DOWN = ("lora_A", "lora_down", "lora.down")


def start_from(policy: PipelinePolicy, path: Path, keep_reference: bool) -> None:
    """Fill a policy's fresh LoRA from a file of diffusers, PEFT, ComfyUI or kohya.

    Args:
        path: The file, or a folder of diffusers or PEFT that holds one.
        keep_reference: Make what is loaded here the reference of `adapter_disabled`, instead of
            the base model alone.

    Raises:
        ValueError: there is no such file, or it does not fit: another model, a larger rank, modules
            that are not trained, or a format that is none of these.
    """
    assert isinstance(policy.adapter, Lora)
    file, settings = _find(path, policy.denoiser_name)
    tensors = _denoisers(load(file), file)
    kohya = family_of(policy).kohya if policy.lora_layout is not None else None
    if kohya is not None and any(key.startswith(kohya.prefix) for key in tensors):
        parts = _by_layout(tensors, policy.adapter.modules, kohya, file)
    else:
        parts = _by_name(tensors, policy.denoiser_name, settings, file)
    policy.adapter.fill(parts, file)
    if keep_reference:
        policy.adapter.keep_reference()


def _find(path: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """The file at `path`, and the settings that are written beside its weights."""
    if path.is_file():
        return path, _header(path, name)
    if (path / LORA_FILE).is_file():
        return path / LORA_FILE, _header(path / LORA_FILE, name)
    if (path / PEFT_FILE).is_file():
        return path / PEFT_FILE, _json(path / PEFT_SETTINGS)
    if not path.exists():
        raise ValueError(f"there is no {path}")
    raise ValueError(f"{path} holds neither {LORA_FILE} nor {PEFT_FILE}: name the file itself")


def _header(file: Path, name: str) -> dict[str, Any]:
    beside = file.with_name(PEFT_SETTINGS)
    if file.name == PEFT_FILE and beside.is_file():
        return _json(beside)
    try:
        with safe_open(file, framework="pt") as stored:
            content = json.loads((stored.metadata() or {}).get(METADATA_KEY, "{}"))
    except Exception as error:  # safetensors' errors have no common class but this
        raise ValueError(f"{file} is damaged, or not a safetensors file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: {METADATA_KEY} in its header is not a JSON object")
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in content.items()}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a JSON object")
    return content


def _denoisers(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Without those of text encoders, which are not trained here."""
    own = {key: one for key, one in tensors.items() if not key.startswith(TEXT_ENCODERS)}
    if len(own) < len(tensors):
        left = len(tensors) - len(own)
        warnings.warn(f"{file}: {left} weights of text encoders are left out", stacklevel=2)
    return own


def _scale(settings: Mapping[str, Any], rank: int, file: Path) -> float:
    """What a LoRA of diffusers or PEFT is multiplied by; 1 where nothing is said, as diffusers."""
    if settings.get("alpha_pattern"):
        raise ValueError(f"{file} has another alpha for some modules, which cannot be read here")
    alpha = settings.get("lora_alpha", rank)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise ValueError(f"{file}: lora_alpha={alpha!r:.60} is not a scale")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _by_name(
    tensors: Mapping[str, Tensor], name: str, settings: Mapping[str, Any], file: Path
) -> dict[str, Part]:
    """Parts of a file whose keys hold diffusers' own names of modules."""
    front = rf"(base_model\.model\.)?({re.escape(name)}\.|diffusion_model\.)?(?P<module>.+)\."
    halves: dict[str, dict[bool, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        if match := re.fullmatch(front + _HALF, key):
            halves.setdefault(match["module"], {})[match["half"] in _DOWN] = tensor
        elif match := re.fullmatch(front + "alpha", key):
            alphas[match["module"]] = float(tensor)
        else:
            raise ValueError(f"{file}: {key} is not a LoRA's")
    parts = {}
    for module, pair in halves.items():
        if len(pair) < 2:
            raise ValueError(f"{file}: {module} lacks one half of its LoRA")
        down, up = pair[True], pair[False]
        known = alphas.get(module)
        scale = _scale(settings, len(down), file) if known is None else known / len(down)
        parts[module] = Part(down, up, scale)
    return parts


def _by_layout(
    tensors: Mapping[str, Tensor], modules: list[str], layout: Layout, file: Path
) -> dict[str, Part]:
    """Parts of a file in kohya's names; a fused module falls into those of diffusers.

    Directions that only other parts of a fused module use are left out.
    """
    parts, used = {}, set()
    for module, key in _keys(modules, layout):
        names = [f"{key}.{layout.down}.weight", f"{key}.{layout.up}.weight"]
        if not all(name in tensors for name in names):
            continue
        down, up = (tensors[name] for name in names)
        alpha = tensors.get(f"{key}.alpha")
        scale = 1.0 if alpha is None else float(alpha) / len(down)
        used |= {*names, f"{key}.alpha"}
        up = up[part_rows(layout.counterpart(module), down)]
        needed = up.movedim(1, 0).flatten(1).any(1)
        if needed.any():
            parts[module] = Part(down[needed], up[:, needed], scale)
    if odd := sorted(tensors.keys() - used):
        raise ValueError(
            f"{file} holds {odd[0]}, which belongs to no module that adapter.targets names "
            f"({len(odd)} such keys)"
        )
    return parts


def _keys(modules: list[str], layout: Layout) -> Iterator[tuple[str, str]]:
    for module in modules:
        try:
            yield module, layout.prefix + layout.counterpart(module).name
        except ValueError:  # kohya's tools have no LoRA there
            continue
