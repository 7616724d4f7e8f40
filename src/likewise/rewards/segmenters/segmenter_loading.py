"""Which segmenter a name in a recipe means."""

from __future__ import annotations

import re

import torch

from likewise.imports import load_target
from likewise.pretrained.models import load_config
from likewise.rewards.segmenters.masks import Segmenter

# Concrete segmenters are imported where they are wanted: each brings much of transformers along.


def load_segmenter(name: str, device: str | torch.device = "cpu") -> Segmenter:
    """The segmenter of that name.

    Args:
        name: A file ``*.onnx`` of U²-Net's layout (the image's most salient thing); or
            ``module:function``, a custom function; or a directory or hub name of a transformers
            model: CLIPSeg (any class, prompted with its name), or a semantic or panoptic one (the
            classes that it has labels for).
        device: Where to segment; a custom function decides for itself.

    Raises:
        ValueError: no such file, function or model exists, the model is of another kind, or a
            package is missing.
    """
    if name.endswith(".onnx"):
        from likewise.rewards.segmenters.u2net import U2NetSegmenter

        return U2NetSegmenter(name, device)
    if re.fullmatch(r"[\w.]+:\w+", name):
        return _function(name)
    try:
        return _pretrained(name, device)
    except (OSError, ImportError) as error:
        raise ValueError(f"cannot load {name!r}: {error}") from error


def _function(name: str) -> Segmenter:
    from likewise.rewards.segmenters.function_segmenter import FunctionSegmenter

    try:
        return FunctionSegmenter(load_target(name), name)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


def _pretrained(name: str, device: str | torch.device) -> Segmenter:
    if load_config(name).model_type == "clipseg":
        from likewise.rewards.segmenters.clipseg import ClipSegSegmenter

        return ClipSegSegmenter(name, device)
    from likewise.rewards.segmenters.labelled import LabelledSegmenter

    return LabelledSegmenter(name, device)
