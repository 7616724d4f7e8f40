"""Embeddings on disk, by content: what was encoded once need not be encoded again.

A second run, or the second epoch of a dataset, then needs no text encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from likewise.policies.common.encoded import Tensors
from likewise.records.atomic import write_atomically

SAMPLES = 32  # of each weight, for the fingerprint of an encoder
Encode = Callable[[], Tensors]


class NoCache:
    """Encodes every time."""

    def get(
        self, owner: Any, kind: str, prompt: str, images: Sequence[Image], encode: Encode
    ) -> Tensors:
        return encode()


class EmbeddingCache:
    """A folder of safetensors files, which any number of processes may share.

    Every file is written at once or not at all, so processes that miss the same embedding only
    compute it twice.

    Args:
        folder: Made if missing.
        pipeline: Whose encoders embed: other weights, or another precision, are other embeddings.
    """

    def __init__(self, folder: Path, pipeline: Any) -> None:
        self.folder = folder
        self.encoders = fingerprint(pipeline)

    def get(
        self, owner: Any, kind: str, prompt: str, images: Sequence[Image], encode: Encode
    ) -> Tensors:
        """What `encode` gives, from disk if it is there; a damaged file is written again.

        Args:
            owner: The policy; each of its settings is taken to matter.
            kind: ``text`` or ``references``.
        """
        file = self._file(owner, kind, prompt, images)
        try:
            stored = load_file(file, device=str(owner.device))
            # Cloned, as in the mapped file they start at odd addresses: `pipeline_loading.align`.
            return {name: one.clone() for name, one in stored.items()}
        except (FileNotFoundError, SafetensorError):
            tensors = encode()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, save({name: one.contiguous() for name, one in tensors.items()}))
        return tensors

    def _file(self, owner: Any, kind: str, prompt: str, images: Sequence[Image]) -> Path:
        key = hashlib.sha256()
        for part in (type(owner).__name__, self.encoders, _settings(owner), kind, prompt):
            key.update(part.encode() + b"\0")
        for image in images:
            key.update(f"{image.mode} {image.size}\0".encode() + image.tobytes())
        name = key.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def fingerprint(pipeline: Any) -> str:
    """Hash of all parts of a pipeline: their shapes, precision, and a sample of each weight."""
    key = hashlib.sha256()
    for name, part in sorted(pipeline.components.items()):
        if not isinstance(part, nn.Module):
            continue
        for weight, value in part.state_dict().items():
            key.update(f"{name}.{weight} {value.dtype} {tuple(value.shape)}\0".encode())
            key.update(_sample(value))
    return key.hexdigest()


def _sample(value: Tensor) -> bytes:
    flat = value.detach().flatten()
    chosen = flat[:: max(1, len(flat) // SAMPLES)].cpu().contiguous()
    return chosen.view(torch.uint8).numpy().tobytes()


def _settings(owner: Any) -> str:
    """All plain settings of a policy: some do not matter to embeddings, but none is forgotten."""
    plain = (bool, int, float, str, tuple, type(None), torch.dtype)
    return repr(sorted((k, str(v)) for k, v in vars(owner).items() if isinstance(v, plain)))
