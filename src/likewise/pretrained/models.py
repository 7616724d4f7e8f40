"""Models of transformers' and diffusers' classes: every weight of them from safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import AutoConfig
from transformers.initialization import no_init_weights

from likewise.pretrained.errors import ModelError, loading
from likewise.pretrained.folders import config_folder, model_folder
from likewise.pretrained.weights import (
    CONFIG,
    STEMS,
    Weights,
    check_counts,
    check_documents,
    find_weights,
    read_document,
)
from likewise.tensors import check_finite

NAMED = 3  # keys at most, in a message
# A config may describe so many times the numbers that its files hold (weights that are tied are
# stored once), and so many in any case, before memory for them is refused.
TIMES, FREE = 4, 2**26
HARMLESS = ("num_batches_tracked",)  # a counter that only training reads


def load_config(name: str | Path, subfolder: str = "") -> Any:
    """The transformers config of a folder or Hub name; no code of the model's own is run.

    Raises:
        OSError: there is no such model.
        ModelError: its config is damaged.
    """
    folder = config_folder(name, subfolder)
    check_documents(folder)
    with loading(folder / CONFIG):
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False)


def load_model(kind: Any, name: str | Path, subfolder: str = "", **options: Any) -> Any:
    """A model whose every weight was read, is finite, and has the shape that its config says.

    Libraries would fill in what a file lacks, at random and without a word. What lies beside the
    network (a classifier's head, the other tower of a CLIP) may be in the file; what lies within it
    and has no place may not: it tells of another config.

    Args:
        kind: A transformers class, ``Auto…`` included, or a diffusers one.
        name: Folder or Hub name; only its safetensors are read.
        options: For ``kind.from_pretrained``.

    Raises:
        OSError: there is no such model, or it has no safetensors.
        ModelError: it is damaged, incomplete, or not what its config says; file or tensor is named.
    """
    folder = model_folder(name, subfolder, STEMS[::-1] if _is_diffusers(kind) else STEMS)
    weights = _checked_folder(kind, folder, options)
    options = {**options, **({} if weights.variant is None else {"variant": weights.variant})}
    if not _is_diffusers(kind):
        options = {"trust_remote_code": False, **options}
    what = str(folder)
    with loading(what):
        model, found = kind.from_pretrained(
            str(folder),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, in one line
            **options,
        )
    _check_keys(model, found, what, strict=_is_diffusers(kind))
    check_finite(model.state_dict(), what)
    return model


def _is_diffusers(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ModelMixin)


def _checked_folder(kind: Any, folder: Path, options: Mapping[str, Any]) -> Weights:
    check_documents(folder)
    config = read_document(folder / CONFIG)
    weights = find_weights(folder)
    sizes = list(weights.sizes())
    check_counts(config, len(sizes), folder / CONFIG)
    with loading(f"{folder / CONFIG}: the model that it describes"):
        described = sum(one.numel() for one in _blank(kind, folder, options).parameters())
    if described > max(FREE, TIMES * sum(sizes)):
        raise ModelError(
            f"{folder / CONFIG} describes a model of {described} numbers, its weights have "
            f"{sum(sizes)}"
        )
    return weights


def _blank(kind: Any, folder: Path, options: Mapping[str, Any]) -> Any:
    """The model that a config describes, without memory for its weights."""
    with torch.device("meta"), no_init_weights():
        if _is_diffusers(kind):
            return kind.from_config(kind.load_config(folder))
        if not hasattr(kind, "_model_mapping"):
            return kind._from_config(kind.config_class.from_pretrained(folder))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)  # for an Auto class
        return kind.from_config(config, trust_remote_code=False)


def _check_keys(model: Any, found: Mapping[str, Any], what: str, strict: bool) -> None:
    missing = [key for key in found["missing_keys"] if not key.endswith(HARMLESS)]
    unexpected = [key for key in found["unexpected_keys"] if strict or _is_within(model, key)]
    others = list(found["unexpected_keys"])
    if missing:
        raise ModelError(
            f"{what} is incomplete: its weights lack {_listed(missing)}"
            + (f", and hold {_listed(others)} instead" if others else "")
        )
    if found["mismatched_keys"]:
        key, has, wants = sorted(found["mismatched_keys"])[0]
        raise ModelError(
            f"{what}: {key} is {list(has)} in its weights, but {list(wants)} by its {CONFIG}"
        )
    if unexpected:
        raise ModelError(
            f"{what}: its weights hold {_listed(unexpected)}, for which a model of its {CONFIG} "
            "has no place"
        )
    if found["error_msgs"]:
        raise ModelError(f"{what} cannot be loaded: {found['error_msgs'][0]}")


def _is_within(model: Any, key: str) -> bool:
    """Whether a key without a place belongs to the network, rather than to something beside it."""
    parts = {name for name, _ in (*model.named_children(), *model.named_parameters(recurse=False))}
    prefix = getattr(model, "base_model_prefix", "")
    if prefix and prefix not in parts:
        key = key.removeprefix(f"{prefix}.")
    return key.partition(".")[0] in parts


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(sorted(keys)[:NAMED]) + more
