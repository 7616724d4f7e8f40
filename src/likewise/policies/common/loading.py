"""Pipelines from a directory or the Hub: the right class, complete, in the right precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    BitsAndBytesConfig,
    DiffusionPipeline,
    PipelineQuantizationConfig,
    TorchAoConfig,
)
from torch import nn

# Name → diffusers' backend, its settings, and the package that must be there.
QUANTIZATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bitsandbytes-8bit": ("bitsandbytes_8bit", {"load_in_8bit": True}, "bitsandbytes"),
    "bitsandbytes-4bit": (
        "bitsandbytes_4bit",
        {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
        },
        "bitsandbytes",
    ),
    "torchao-int8": ("torchao", {}, "torchao"),
}


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
        ValueError: it is another pipeline, a part is missing, or `quantization` is not possible.
        OSError: nothing is there.
    """
    config = DiffusionPipeline.load_config(str(name))
    kind = _class_of(name, config, classes)
    _require_parts(Path(name), config, without)
    quantized = _quantization(quantization, denoiser, dtype)
    pipeline = kind.from_pretrained(  # type: ignore[attr-defined]
        str(name),
        dtype=dtype,
        use_safetensors=True,
        **{part: None for part in without if part in config},
        **({} if parts is None else parts(name)),
        **({} if quantized is None else {"quantization_config": quantized}),
    )
    for part_name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and (part_name == denoiser or not offload):
            part.to(device)
    align(pipeline)
    return pipeline


def align(pipeline: Any) -> None:
    """Move weights that safetensors mapped from a file into memory of torch's own.

    In the file they start at odd addresses, and CPU matrix products round differently there: the
    same weights, loaded or trained, would draw pictures that differ in their last bits.
    """
    for part in pipeline.components.values():
        if isinstance(part, nn.Module) and part.device.type == "cpu" and not _is_quantized(part):
            for weights in (*part.parameters(), *part.buffers()):
                weights.data = weights.data.clone()


def _is_quantized(part: Any) -> bool:
    return getattr(part, "hf_quantizer", None) is not None


def _class_of(name: str | Path, config: dict[str, Any], classes: Sequence[type]) -> type:
    found = config["_class_name"]
    for kind in classes:
        if kind.__name__ == found:
            return kind
    wanted = " or ".join(kind.__name__ for kind in classes)
    raise ValueError(f"{name} is a {found}, not a {wanted}")


def _require_parts(folder: Path, config: dict[str, Any], without: Sequence[str]) -> None:
    """Every part that the index lists has to be there; diffusers' own message names none."""
    if not folder.is_dir():
        return
    for part, described in config.items():
        listed = isinstance(described, list | tuple) and described[0] is not None
        if listed and part not in without and not (folder / part).is_dir():
            raise ValueError(
                f"{folder} has no sub-folder {part!r}, which its model_index.json lists"
            )


def _quantization(
    name: str | None, denoiser: str, dtype: torch.dtype
) -> PipelineQuantizationConfig | None:
    if name is None:
        return None
    if name not in QUANTIZATIONS:
        raise ValueError(
            f"policy.quantization: there is no {name!r}; one of {', '.join(QUANTIZATIONS)}"
        )
    backend, settings, package = QUANTIZATIONS[name]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"policy.quantization {name} needs the package {package}: "
            "pip install 'likewise[quantization]'"
        )
    if package == "bitsandbytes" and not torch.accelerator.is_available():
        raise ValueError(f"policy.quantization {name} needs a GPU: on a CPU there is torchao-int8")
    if backend == "bitsandbytes_4bit":
        settings = {**settings, "bnb_4bit_compute_dtype": dtype}
    if backend == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
    else:
        config = BitsAndBytesConfig(**settings)
    return PipelineQuantizationConfig(quant_mapping={denoiser: config})
