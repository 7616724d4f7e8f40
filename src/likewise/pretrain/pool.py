"""A pool of encoded images for the generator, so that rendering and VAE encoding are paid once.

Each *individual* (a sticker with a mark, often in made-up colours and proportions) gets a few
reference and a few target images; any reference may be paired with any target.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import track
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from likewise import tensors as tensor_files
from likewise.data.stickers.art import shipped_art
from likewise.data.stickers.rendering import Drawing, Spec
from likewise.data.stickers.scenes import SCENES
from likewise.policies.flux.tokens import pack
from likewise.pretrain.samples import draw, random_look, random_subject, random_variant
from likewise.seeding import numpy_rng

REFERENCES, TARGETS = 2, 4  # images per individual
# Unusual sizes, places and colours are oversampled: moving, scaling and recolouring a subject is
# what is hard to learn.
LAYOUT_SHARE, COLOUR_SHARE = 0.5, 0.5


@dataclass(frozen=True)
class Pool:
    """Encoded images: packed latents and what each target shows.

    references: float16 [N, REFERENCES, 64, 32]; targets: float16 [N, TARGETS, 64, 32];
    weights: float16 [N, TARGETS, 64], share of each token's pixels that the subject covers;
    names: plain name per individual; looks: constraints per target.
    """

    references: Tensor
    targets: Tensor
    weights: Tensor
    names: list[str]
    looks: list[list[dict[str, str]]]


class _Individuals(Dataset[Mapping[str, Any]]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = numpy_rng("pool", index)
        subject, variant = random_subject(rng), random_variant(rng)
        references = [
            random_reference(Spec(subject, variant=variant), rng) for _ in range(REFERENCES)
        ]
        looks = [random_look(rng, LAYOUT_SHARE, COLOUR_SHARE) for _ in range(TARGETS)]
        targets = [draw(Spec(subject, variant=variant, **look), rng) for look in looks]
        images = [*references, *targets]
        return {
            "images": np.stack([np.asarray(drawing.image) for drawing in images]),
            "weights": torch.stack([coverage(drawing.mask) for drawing in targets]),
            "name": shipped_art()[subject].name,
            "looks": json.dumps(looks),
        }


def random_reference(spec: Spec, rng: np.random.Generator) -> Drawing:
    """A reference image: usual size and place, plain or busy background."""
    scenes = tuple(SCENES)
    scene = scenes[rng.integers(len(scenes))] if rng.random() < 0.5 else None
    return draw(Spec(spec.subject, scene=scene, variant=spec.variant), rng)


def coverage(mask: Image.Image) -> Tensor:
    """Mask → float32 [64]: share of each 8×8-pixel token that the subject covers."""
    array = np.asarray(mask, dtype=np.float32).reshape(8, 8, 8, 8) / 255
    return torch.from_numpy(array.mean(axis=(1, 3)).reshape(64))


def _together(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One tensor per kind, and bytes for pixels: little for worker processes to send."""
    return {
        "images": torch.from_numpy(np.stack([item["images"] for item in items])),
        "weights": torch.stack([item["weights"] for item in items]).half(),
        "names": [item["name"] for item in items],
        "looks": [item["looks"] for item in items],
    }


@torch.no_grad()
def build_pool(
    vae: AutoencoderKL,
    count: int,
    device: torch.device,
    workers: int,
    seconds: float | None = None,
) -> Pool:
    """Render and encode the images of `count` individuals, or of fewer if `seconds` are up."""
    started = time.monotonic()
    loader = DataLoader(
        _Individuals(count),
        batch_size=16 if device.type == "cpu" else 64,
        num_workers=workers,
        collate_fn=_together,
    )
    latents, weights, names, looks = [], [], [], []
    vae = vae.to(device, memory_format=torch.channels_last).eval()
    for part in track(loader, description="encoding images"):
        pixels = part["images"].flatten(0, 1).to(device).permute(0, 3, 1, 2)
        images = pixels.float() / 127.5 - 1.0
        with torch.autocast(device.type, torch.bfloat16):
            latent = vae.encode(
                images.contiguous(memory_format=torch.channels_last)
            ).latent_dist.mode()
        latent = (latent.float() - vae.config.shift_factor) * vae.config.scaling_factor
        packed = pack(latent.contiguous()).half().cpu()
        latents.append(packed.view(len(part["names"]), REFERENCES + TARGETS, 64, -1))
        weights.append(part["weights"].clone())  # shared memory would keep a file open
        names += part["names"]
        looks += [json.loads(text) for text in part["looks"]]
        if seconds is not None and time.monotonic() - started > seconds:
            break
    every = torch.cat(latents)
    return Pool(
        every[:, :REFERENCES].contiguous(),
        every[:, REFERENCES:].contiguous(),
        torch.cat(weights),
        names,
        looks,
    )


def load_or_build_pool(
    folder: Path, vae: AutoencoderKL, count: int, device: torch.device, workers: int
) -> Pool:
    """The pool in `folder`, built and stored there on first use."""
    path = folder / f"pool-{count}.safetensors"
    if not path.exists():
        pool = build_pool(vae, count, device, workers)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"references": pool.references, "targets": pool.targets, "weights": pool.weights}
        words = {"names": json.dumps(pool.names), "looks": json.dumps(pool.looks)}
        tensor_files.save(tensors, path.with_suffix(".tmp"), words)
        os.replace(path.with_suffix(".tmp"), path)
        return pool
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        return Pool(
            file.get_tensor("references"),
            file.get_tensor("targets"),
            file.get_tensor("weights"),
            json.loads(metadata["names"]),
            json.loads(metadata["looks"]),
        )
