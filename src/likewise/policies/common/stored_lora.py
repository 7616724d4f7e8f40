"""Reading LoRA files in diffusers' format, with all that other programs may have put in them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from likewise.tensors import check_finite

LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers looks for this name
METADATA_KEY = "lora_adapter_metadata"  # diffusers' place for alpha and targets
LARGEST_RANK = 8192  # more than the width of any denoiser that LoRAs are trained for

# What decides how weights act. Of the other settings some say nothing about the weights: what the
# search for modules is narrowed by (the modules are known), how they began, who wrote the file.
SWITCHES = {"use_rslora", "use_dora", "lora_bias", "fan_in_fan_out"}
ACTING = {"r", "lora_alpha", "rank_pattern", "alpha_pattern"} | SWITCHES
ASIDE = {"target_modules", "exclude_modules", "layers_pattern", "layers_to_transform"}
ASIDE |= {"init_lora_weights", "eva_config", "loftq_config", "lora_dropout", "runtime_config"}
ASIDE |= {"task_type", "peft_type", "auto_mapping", "peft_version", "inference_mode", "revision"}
ASIDE |= {"base_model_name_or_path", "ensure_weight_tying", "megatron_core", "qalora_group_size"}
BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")  # that leave the base as it is
PLAIN = re.compile(r"\^?[\w.]+\$?")  # a module's name, in tables of ranks and scales

# How the keys of other formats begin, and what such a file is.
FOREIGN = {
    "text_encoder": "also has weights of a text encoder, which would have to be left out",
    "base_model": "is in PEFT's own format",
    "lora_unet": "is in kohya's format",
    "lora_transformer": "is in kohya's format",
    "lora_te": "also has weights of a text encoder, in kohya's format",
    "diffusion_model": "is in ComfyUI's format",
}


def read_lora(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and settings ({} if unknown) of a LoRA, without `name` in front.

    Args:
        path: A folder with `LORA_FILE` in it, or such a file under any name.
        name: The part of the pipeline that the LoRA is for, as ``transformer``.

    Raises:
        ValueError: there is no such file, it is damaged, in another format or for another part of
            a pipeline, its settings make no sense, or a weight is not finite.
    """
    file = path if path.is_file() else path / LORA_FILE
    if not file.is_file():
        raise ValueError(f"{path} has no {LORA_FILE}")
    try:
        with safe_open(file, framework="pt") as stored:
            header = (stored.metadata() or {}).get(METADATA_KEY, "{}")
            keys = list(stored.keys())
            _check_keys(keys, name, file)
            weights = {key.removeprefix(f"{name}."): stored.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    check_finite(weights, file)
    return weights, _settings(header, name, file)


def stored_config(
    settings: Mapping[str, Any], weights: Mapping[str, Tensor], source: Path
) -> LoraConfig:
    """What PEFT needs to add a LoRA like the stored one.

    Only settings that decide how the weights act reach PEFT. Others may be there as long as they
    are null or empty, as PEFT writes them for what is not used, or say nothing about the weights.
    The modules are those that have weights, and tables of ranks and scales hold plain names: no
    regular expression of a stranger's is evaluated.

    Args:
        source: Where settings and weights are from, for messages.

    Raises:
        ValueError: the settings contradict the weights, or use something that is not supported.
    """
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    used = {key: value for key, value in settings.items() if value and key not in ACTING | ASIDE}
    if used.get("bias") == "none":
        del used["bias"]
    if used:
        words = ", ".join(f"{key}={value!r:.60}" for key, value in used.items())
        unknown = used.keys() - known
        remedy = (
            "the installed version of peft does not know: upgrade peft"
            if unknown
            else ("adapters of likewise cannot have")
        )
        raise ValueError(f"{source} was trained with {words}, which {remedy}")
    beginning = settings.get("init_lora_weights")
    if beginning not in BEGINNINGS:
        raise ValueError(
            f"{source} was trained with init_lora_weights={beginning!r:.60}, which changes the "
            "base model: convert it to a plain LoRA with peft first"
        )
    for key in SWITCHES & settings.keys():
        if settings[key] not in (None, True, False):
            raise ValueError(f"{source}: {key}={settings[key]!r:.60} is neither true nor false")
    _check_tables(settings, source)
    _check_ranks(settings, weights, source)
    modules = sorted({key.rpartition(".lora_")[0] for key in weights if ".lora_" in key})
    chosen = {key: one for key, one in settings.items() if key in ACTING and one is not None}
    try:
        return LoraConfig(**{**chosen, "target_modules": modules})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} has settings that peft refuses: {error}") from error


def _check_tables(settings: Mapping[str, Any], source: Path) -> None:
    """Ranks and scales of single modules; PEFT takes the names there for regular expressions."""
    for table, fits in (("rank_pattern", _is_rank), ("alpha_pattern", _is_scale)):
        found = settings.get(table) or {}
        fine = isinstance(found, dict) and all(
            PLAIN.fullmatch(name) and fits(value) for name, value in found.items()
        )
        if not fine:
            raise ValueError(f"{source}: {table} is not a table from modules to numbers")


def _check_ranks(settings: Mapping[str, Any], weights: Mapping[str, Tensor], source: Path) -> None:
    """The ranks that the settings ask memory for are those of the weights."""
    table = settings.get("rank_pattern") or {}
    for key, one in weights.items():
        module, half, _ = key.partition(".lora_A.")
        if half:
            wanted = table.get(get_pattern_key(list(table), module), settings.get("r"))
            if wanted != len(one):
                raise ValueError(
                    f"{source} says r={wanted} of {module}, but its weights have rank {len(one)}"
                )


def _check_keys(keys: Iterable[str], name: str, file: Path) -> None:
    for key in keys:
        if key.startswith(f"{name}."):
            continue
        for start, what in FOREIGN.items():
            if key.startswith(start):
                raise ValueError(
                    f"{file} {what} ({key}): give a LoRA in diffusers' format for the {name} alone"
                )
        if key.startswith(("transformer.", "unet.")):
            part = key.partition(".")[0]
            raise ValueError(f"{file} is a LoRA for a {part}, and this model has a {name}")


def _settings(header: str, name: str, file: Path) -> dict[str, Any]:
    """The part of a file's settings that is about `name`.

    Raises:
        ValueError: the header is not a JSON object, or rank or scale is out of range.
    """
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: {METADATA_KEY} in its header is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: {METADATA_KEY} in its header is not a JSON object")
    start = f"{name}."
    settings = {key.removeprefix(start): v for key, v in content.items() if key.startswith(start)}
    if "r" in settings and not _is_rank(settings["r"]):
        raise ValueError(f"{file}: r={settings['r']!r:.60} in its header is not a LoRA's rank")
    if "lora_alpha" in settings and not _is_scale(settings["lora_alpha"]):
        raise ValueError(f"{file}: lora_alpha={settings['lora_alpha']!r:.60} is not a scale")
    return settings


def _is_rank(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_RANK


def _is_scale(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0
