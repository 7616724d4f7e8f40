"""Pipelines from a directory or the Hub: the right class, complete, in the right precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import BitsAndBytesConfig, SchedulerMixin, TorchAoConfig
from torch import nn
from transformers.image_processing_utils import ImageProcessingMixin

from likewise.hub import hub_file
from likewise.pretrained.errors import ModelError, loading
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor
from likewise.pretrained.weights import PIPELINE, check_documents, read_document

# Name → settings of diffusers' configuration, and the package that must be there.
QUANTIZATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes-8bit": ({"load_in_8bit": True}, "bitsandbytes"),
    "bitsandbytes-4bit": (
        {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
        },
        "bitsandbytes",
    ),
    "torchao-int8": ({}, "torchao"),
}
LIBRARIES = {"diffusers": diffusers, "transformers": transformers}  # whose classes are loaded


def load_pipeline(
    name: str | Path,
    classes: Sequence[type],
    denoiser: str,
    dtype: torch.dtype,
    device: torch.device | str,
    quantization: str | None = None,
    offload: bool = False,
    without: Sequence[str] = (),
    parts: Callable[[str | Path], Mapping[str, Any]] | None = None,
) -> Any:
    """A pipeline on `device`; with `offload` only its denoiser, the rest on the CPU.

    Args:
        name: Directory in diffusers' format, or on the Hub. Only safetensors are read.
        classes: Those that will do.
        denoiser: Its part that is trained, and that `quantization` compresses.
        without: Parts that are not loaded.
        parts: Makes parts of the pipeline `name` that diffusers cannot load.

    Raises:
        ValueError: the pipeline is of another class, a part is missing, damaged or incomplete, or
            `quantization` is not possible.
        OSError: there is no such directory or Hub name.
    """
    folder = _folder(name)
    config = read_document(folder / PIPELINE)
    kind = _class_of(name, config, classes)
    quantized = _quantization(quantization, dtype)
    _require_parts(Path(name), config, without)
    given: dict[str, Any] = {part: None for part in without if part in config}
    given |= {} if parts is None else parts(name)
    later = {}
    for part, own in _part_classes(name, config, given):
        if issubclass(own, nn.Module):
            extra = {"quantization_config": quantized} if quantized and part == denoiser else {}
            given[part] = load_model(own, name, part, dtype=dtype, **extra)
        elif issubclass(own, ImageProcessingMixin):
            # diffusers wants the class that the index names, and may not get its PIL version.
            given[part], later[part] = None, load_image_processor(name, part)
        elif folder != Path(name):
            given[part] = _from_hub(own, str(name), part)
    with loading(name):
        pipeline = kind.from_pretrained(str(folder), **given)  # type: ignore[attr-defined]
    pipeline.register_modules(**later)
    for part_name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and (part_name == denoiser or not offload):
            part.to(device)
    align(pipeline)
    return pipeline


def align(pipeline: Any) -> None:
    """Move weights that safetensors mapped from a file into memory of torch's own.

    In the file they start at odd addresses, and CPU matrix products round differently there: the
    same weights, loaded or trained, would draw images that differ in their last bits.
    """
    for part in pipeline.components.values():
        if isinstance(part, nn.Module) and part.device.type == "cpu" and not _is_quantized(part):
            for weights in (*part.parameters(), *part.buffers()):
                weights.data = weights.data.clone()


def _is_quantized(part: Any) -> bool:
    return getattr(part, "hf_quantizer", None) is not None


def _from_hub(kind: Any, name: str, part: str) -> Any:
    """A tokenizer or schedule of a pipeline on the Hub; diffusers would do without its files."""
    if issubclass(kind, SchedulerMixin):
        check_documents(hub_file(name, f"{part}/scheduler_config.json").parent)
    with loading(f"{name}/{part}"):
        return kind.from_pretrained(name, subfolder=part)


def _folder(name: str | Path) -> Path:
    """A pipeline's folder; of one on the Hub, that of its index in the cache."""
    folder = Path(name)
    if folder.is_file():
        raise ModelError(
            f"{name} is a single file; wanted a folder in diffusers' format, with {PIPELINE}: "
            "read it with a pipeline's from_single_file, and write it with save_pretrained"
        )
    return folder if folder.is_dir() else hub_file(name, PIPELINE).parent


def _part_classes(
    name: str | Path, config: Mapping[str, Any], given: Mapping[str, Any]
) -> list[tuple[str, type]]:
    """Every part that the index lists and that is not in `given`, and its class.

    Raises:
        ModelError: a part is listed in another way, or of another library, whose import would run
            code.
    """
    classes = []
    for part, described in config.items():
        if part in given or not isinstance(described, list | tuple) or not any(described):
            continue
        library, kind = described if len(described) == 2 else (None, None)
        kind = str(kind).replace("FeatureExtractor", "ImageProcessor")  # its name until 2023
        found = getattr(LIBRARIES.get(str(library)), kind, None)
        if not isinstance(found, type):
            raise ModelError(
                f"{name}: {PIPELINE} lists {part} as {described}; wanted a class of "
                f"{' or '.join(LIBRARIES)}"
            )
        classes.append((part, found))
    return classes


def _class_of(name: str | Path, config: dict[str, Any], classes: Sequence[type]) -> type:
    found = config.get("_class_name")
    for kind in classes:
        if kind.__name__ == found:
            return kind
    wanted = " or ".join(kind.__name__ for kind in classes)
    raise ValueError(f"{name} is a {found}, not a {wanted}")


def _require_parts(folder: Path, config: Mapping[str, Any], without: Sequence[str]) -> None:
    """Every part that the index lists has to be there; diffusers' own message names none."""
    if not folder.is_dir():
        return
    for part, described in config.items():
        listed = isinstance(described, list | tuple) and any(described)
        if listed and part not in without:
            if not (folder / part).is_dir():
                raise ValueError(f"{folder} has no sub-folder {part!r}, which its {PIPELINE} lists")
            check_documents(folder / part)


def _quantization(name: str | None, dtype: torch.dtype) -> Any:
    """diffusers' configuration for the denoiser; None if `name` is."""
    if name is None:
        return None
    if name not in QUANTIZATIONS:
        raise ValueError(
            f"policy.quantization: there is no {name!r}; one of {', '.join(QUANTIZATIONS)}"
        )
    settings, package = QUANTIZATIONS[name]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"policy.quantization {name} needs the package {package}: "
            "pip install 'likewise[quantization]'"
        )
    if package == "bitsandbytes" and not torch.accelerator.is_available():
        raise ValueError(f"policy.quantization {name} needs a GPU: on a CPU there is torchao-int8")
    if package == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    if "load_in_4bit" in settings:
        settings = {**settings, "bnb_4bit_compute_dtype": dtype}
    return BitsAndBytesConfig(**settings)
