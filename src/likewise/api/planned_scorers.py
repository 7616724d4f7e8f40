"""What reward models and held-out evaluators need, worked out without weights."""

from __future__ import annotations

import torch

from likewise.builders.rewards import BATCH_SIZE
from likewise.config.recipe import Recipe
from likewise.config.rewards import Remote, Reward, VlmJudge
from likewise.footprint.fake import Weightless
from likewise.footprint.meta import weightless_encoder
from likewise.footprint.reward_models import copies_here, copies_there, encoding_peak
from likewise.footprint.weight_bytes import module_bytes


class Scorers:
    """Those of recipes; what was worked out for one serves the others.

    Args:
        gpu: Whether it is for GPUs; else all are on the CPU.
    """

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        self._models: dict[tuple[str, torch.dtype], int] = {}
        self._encodings: dict[tuple[str, torch.dtype, int], int] = {}

    def sizes(self, recipe: Recipe, processes: int) -> tuple[dict[str, int | None], dict[str, int]]:
        """Bytes of each reward's models on the device of a process; None where they are not known.

        And those on other devices.

        Args:
            processes: Of a machine.
        """
        found: dict[str, int | None] = {}
        elsewhere: dict[str, int] = {}
        for name, settings in scorers_of(recipe).items():
            sizes = [self._bytes(*one) for one in models_of(settings)]
            known = [size for size in sizes if size is not None]
            device = getattr(settings, "device", None)
            if not known or len(known) < len(sizes):
                found[name] = None
                continue
            copies = copies_here(device, processes) if self.gpu else 1
            if device is None or copies:
                found[name] = copies * sum(known)
            else:
                size = copies_there(device, processes) * sum(known)
                elsewhere[device] = elsewhere.get(device, 0) + size
        return found, elsewhere

    def peak(self, recipe: Recipe, images: int, processes: int) -> int:
        """Most bytes that a reward's model takes for a batch, on the device of a process."""
        most = 0
        for settings in scorers_of(recipe).values():
            device = getattr(settings, "device", None)
            if self.gpu and not copies_here(device, processes):
                continue
            for model, dtype in models_of(settings)[:1]:  # segmenters are of other kinds
                most = max(most, self._encoding(model, dtype, min(images, BATCH_SIZE)))
        return most

    def _encoding(self, model: str, dtype: torch.dtype, images: int) -> int:
        """0 where it is not known."""
        key = model, dtype, images
        if key not in self._encodings:
            world = Weightless(like_cuda=self.gpu)
            try:
                with world:
                    encoder = weightless_encoder(model, "", dtype)
                self._encodings[key] = encoding_peak(encoder, images, world) or 0
            except ValueError:
                self._encodings[key] = 0
        return self._encodings[key]

    def _bytes(self, model: str, dtype: torch.dtype) -> int | None:
        if (model, dtype) not in self._models:
            try:
                self._models[model, dtype] = module_bytes(weightless_encoder(model, "", dtype))
            except ValueError:
                return None
        return self._models[model, dtype]


def scorers_of(recipe: Recipe) -> dict[str, Reward]:
    """Rewards and evaluators with models in the processes of a run, by what they are called."""
    held_out = (recipe.evaluators or {}) if recipe.run.evaluation.every > 0 else {}
    named = {**recipe.rewards, **{f"evaluator {name}": one for name, one in held_out.items()}}
    return {name: one for name, one in named.items() if not isinstance(one, Remote | VlmJudge)}


def models_of(settings: Reward) -> list[tuple[str, torch.dtype]]:
    """The models that a reward holds in memory, and in which dtype; segmenters are in float32."""
    model = getattr(settings, "base", None) or getattr(settings, "model", None)
    own = getattr(torch, getattr(settings, "dtype", "float32"))
    segmenter = getattr(settings, "segmenter", None)
    pairs = [(model, own), (segmenter, torch.float32)]
    return [(name, dtype) for name, dtype in pairs if name is not None]
