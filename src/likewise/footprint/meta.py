"""Models of the real classes without weights, built from their configs alone.

Their tensors lie on the meta device; inside a ``FakeTensorMode`` they are its CPU tensors instead,
so that forwards can be traced. Nothing is allocated either way: 20 B parameters take seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import CLIPVisionModelWithProjection, PreTrainedModel

from likewise.assets import architectures
from likewise.footprint.placing import into_fake_mode, on_meta, replace_tensors
from likewise.pretrained.errors import loading
from likewise.pretrained.weights import read_document, tensor_shapes


def weightless_pipeline(model: str | Path, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """The pipeline of a directory or a described model: real schedule, models without weights.

    All other parts (tokenizers, processors, safety checkers) are None.

    Raises:
        ValueError: the model is neither a directory nor described, or it is not a pipeline that
            diffusers knows; the message names the file that is missing or wrong.
    """
    folder = architectures.folder(model)
    index = _read(folder / "model_index.json")
    kind = _class(diffusers, index.get("_class_name"), folder / "model_index.json")
    parts = {
        name: _part(folder, name, dtype, *value) if isinstance(value, list) else value
        for name, value in index.items()
        if not name.startswith("_")
    }
    if "safety_checker" in parts:
        parts["requires_safety_checker"] = False
    return kind(**parts)


def weightless_encoder(
    model: str | Path, subfolder: str = "", dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """The transformers model of a directory or a described model.

    Raises:
        ValueError: the model is neither a directory nor described, or its config names no class
            that transformers knows.
    """
    folder = architectures.folder(model) / subfolder
    kinds = _read(folder / "config.json").get("architectures") or [None]
    return _model(_class(transformers, kinds[0], folder / "config.json"), folder, dtype)


def add_ip_adapter(
    pipeline: DiffusionPipeline, ip_adapter: str | Path, weights: str, image_encoder: str
) -> None:
    """Add an IP-Adapter to a weightless pipeline, as its ``load_ip_adapter`` adds a real one.

    Args:
        pipeline: Of `weightless_pipeline`, with a UNet.
        ip_adapter: A directory or described model.
        weights: Its safetensors file, a path inside it; only names and shapes are read.
        image_encoder: The directory of its CLIP image encoder, a path inside it.

    Raises:
        ValueError: there is no such file or encoder, or it is not an adapter for this UNet.
    """
    folder = architectures.folder(ip_adapter)
    shapes = _shapes(folder, weights)
    unet = pipeline.unet
    encoder = _model(CLIPVisionModelWithProjection, folder / image_encoder, unet.dtype)
    pipeline.register_modules(image_encoder=encoder)
    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    with on_meta(unet.dtype):
        replace_tensors(unet)
        try:
            for key, shape in shapes.items():
                group, _, name = key.partition(".")
                state[group][name] = torch.empty(shape)
            pipeline.load_ip_adapter(state, "", "", None, low_cpu_mem_usage=False)
        except (KeyError, RuntimeError) as error:
            message = f"{weights} of {ip_adapter} is not an IP-Adapter for this UNet: {error}"
            raise ValueError(message) from error
    into_fake_mode(unet)


def _part(
    folder: Path, name: str, dtype: torch.dtype, library: str | None, kind: str | None
) -> Any:
    """One part of a pipeline, from the library and class that its index has for it."""
    known = {"diffusers": diffusers, "transformers": transformers}.get(str(library))
    part: Any = getattr(known, str(kind), object)
    if issubclass(part, SchedulerMixin):
        with unset_fake_temporarily():  # its numbers are wanted, and small
            return part.from_config(part.load_config(folder, subfolder=name))
    if issubclass(part, ModelMixin | PreTrainedModel):
        return _model(part, folder / name, dtype)
    return None


def _model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    _read(folder / "config.json")
    with loading(folder / "config.json"), on_meta(dtype):
        if issubclass(kind, ModelMixin):
            model = kind.from_config(kind.load_config(folder))
        else:
            model = kind._from_config(kind.config_class.from_pretrained(folder), dtype=dtype)
            if dtype is torch.float16:  # some layers of T5 overflow in it; loading keeps them wide
                for name, module in model.named_modules():
                    if name.rpartition(".")[2] in model._keep_in_fp32_modules:
                        module.float()
    into_fake_mode(model)
    return model.eval()


def _shapes(folder: Path, weights: str) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a file; a description has them as JSON in its place."""
    if (folder / f"{weights}.json").is_file():
        return _read(folder / f"{weights}.json")
    if not (folder / weights).is_file():
        raise ValueError(f"{folder} has no {weights}")
    return {name: list(shape) for name, shape in tensor_shapes(folder / weights).items()}


def _class(library: Any, name: str | None, file: Path) -> Any:
    kind = getattr(library, str(name), None)
    if kind is None:
        raise ValueError(f"{file}: {library.__name__} has no class {name!r}")
    return kind


def _read(file: Path) -> dict[str, Any]:
    return read_document(file)
