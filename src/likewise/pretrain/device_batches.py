"""Batches for the generator, made on the device: a GPU outruns processes that prepare samples.

The pool lies in the device's memory, and captions are written and tokenized beforehand, a few per
target; a batch is then a handful of gathers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer, T5TokenizerFast

from likewise.pretrain.loop import Batch, FitRun
from likewise.pretrain.pool import REFERENCES, TARGETS
from likewise.seeding import derive_seed, numpy_rng

if TYPE_CHECKING:  # it imports this module
    from likewise.pretrain.generator import SampleMaker

VARIANTS = 2  # captions per target: exact ones, and as many noisy ones
_PER_ITEM = 64  # individuals whose captions a worker process writes at a time


class DeviceBatches:
    """Implements :class:`likewise.pretrain.loop.BatchMaker` with the distribution of `samples`.

    Args:
        samples: Whose pool, captions and settings (batch size, when captions become noisy) to use.
        run: Whose device to use, and worker processes that write captions.
    """

    def __init__(self, samples: SampleMaker, run: FitRun) -> None:
        self.samples, self.device = samples, run.device
        pool = samples.pool
        self.references = pool.references.to(run.device)
        self.targets = pool.targets.to(run.device)
        self.weights = pool.weights.to(run.device)
        self.coloured, self.with_scene = (
            torch.tensor(
                [[attribute in look for look in looks] for looks in pool.looks], device=run.device
            )
            for attribute in ("colour", "scene")
        )
        captions = write_captions(samples, run.workers)
        self.clip_ids = captions["clip_ids"].to(run.device)
        self.t5_ids = captions["t5_ids"].to(run.device)

    def batch(self, step: int) -> Batch:
        """What `SampleMaker` makes, as a batch; ``text_only`` on the CPU, where it is asked for."""
        settings = self.samples.settings
        seed = derive_seed(settings.name, "batch", step)
        generator = torch.Generator(self.device).manual_seed(seed)

        def draw(options: int) -> Tensor:
            return torch.randint(
                options, (settings.batch_size,), generator=generator, device=self.device
            )

        individual, target = draw(len(self.targets)), draw(TARGETS)
        target = torch.where(self.coloured[individual, target], target, draw(TARGETS))
        careless = int(step >= self.samples.careless_from)
        if careless:
            target = torch.where(self.with_scene[individual, target], draw(TARGETS), target)
        caption = (individual, target, careless, draw(VARIANTS))
        text_only = self.samples.is_text_only(step)
        return {
            "target": self.targets[individual, target].float(),
            "reference": self.references[individual, draw(REFERENCES)].float(),
            "coverage": self.weights[individual, target].float(),
            "clip_ids": self.clip_ids[caption].long(),
            "t5_ids": self.t5_ids[caption].long(),
            "text_only": torch.full((settings.batch_size,), text_only),
        }


def write_captions(samples: SampleMaker, workers: int) -> Mapping[str, Tensor]:
    """``clip_ids`` int16 [N, TARGETS, 2, VARIANTS, 24] and ``t5_ids``, 16 at the end.

    The third dimension holds exact captions (0) and noisy ones (1).
    """
    loader = DataLoader(_Captions(samples), batch_size=None, num_workers=workers)
    # Copies, because tensors in shared memory keep a file open each.
    parts = [{key: ids.clone() for key, ids in part.items()} for part in loader]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


class _Captions(Dataset[Mapping[str, Tensor]]):
    """Item `i`: the captions of individuals `i`·_PER_ITEM and following."""

    def __init__(self, samples: SampleMaker) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return -(-len(self.samples.pool.names) // _PER_ITEM)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        first = index * _PER_ITEM
        last = min(first + _PER_ITEM, len(self.samples.pool.names))
        prompts: list[str] = []
        for individual in range(first, last):
            rng = numpy_rng("captions", individual)
            prompts += [
                self.samples.prompt(individual, target, careless, rng)
                for target in range(TARGETS)
                for careless in (False, True)
                for _ in range(VARIANTS)
            ]
        shape = (last - first, TARGETS, 2, VARIANTS, -1)
        return {
            "clip_ids": _token_ids(self.samples.clip, prompts).view(shape),
            "t5_ids": _token_ids(self.samples.t5, prompts).view(shape),
        }


def _token_ids(tokenizer: CLIPTokenizer | T5TokenizerFast, prompts: list[str]) -> Tensor:
    """int16 [len(prompts), tokenizer.model_max_length]: vocabularies of the world are small."""
    encoded = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids.to(torch.int16)
