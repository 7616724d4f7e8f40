"""Evaluators: for evaluation only, of another architecture and seed than the rewards.

A gain that the evaluators do not see is reward hacking. They implement the reward protocol, but no
recipe should train on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageClassification

from likewise.pretrained.first_use import first_use
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor
from likewise.rewards.common.inputs import BLANK, check_images, check_tasks, in_batches
from likewise.rewards.common.likeness import Likeness, load_encoder
from likewise.types import Task


class IdentityEvaluator(Likeness):
    """Cosine between pooled features of an image and of what its task asks for.

    Trained with labels to see the individual through scene, size and light; another subject, other
    colours and other marks score low. The shipped one is a ``ResNetModel`` (He et al. 2015,
    arXiv:1512.03385), whose features are not negative, so its values lie in [0, 1].

    Args:
        path_or_name: Directory or hub name of a vision ``AutoModel`` whose output has a
            ``pooler_output``, with its image processor.
        device: Where to encode.
        asked_for: The image to compare with, by task: this subject recoloured, moved and scaled as
            the prompt asks, so that obeying the prompt costs no identity. Without it, the task's
            reference.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        device: str | torch.device = "cpu",
        asked_for: Callable[[Task], Image.Image] | None = None,
    ) -> None:
        super().__init__(*load_encoder(path_or_name), device)
        self.try_out(path_or_name)
        self.asked_for = asked_for

    def references(self, tasks: Sequence[Task]) -> Sequence[Image.Image | None]:
        """What each task asks for, else its reference."""
        if self.asked_for is None:
            return super().references(tasks)
        return [self.asked_for(task) for task in tasks]


class PromptEvaluator:
    """Which scene, colour, size and place an image shows, and whether that is what was asked for.

    Args:
        path_or_name: Directory of an image classifier whose ``id2label`` reads
            ``"attribute:value"``; its logits are one softmax per attribute.
        device: Where to encode.
        strict: Score 1.0 only where every constraint is satisfied, and 0.0 elsewhere: *success*.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        device: str | torch.device = "cpu",
        strict: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.strict = strict
        model = load_model(AutoModelForImageClassification, path_or_name)
        self.model = model.to(self.device).eval()
        self.processor = load_image_processor(path_or_name)
        self.groups = label_groups(model.config.id2label)
        with first_use(path_or_name, {"": self.model}, ""):
            self._encode([BLANK])

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Share of the asked-for constraints that each image satisfies, float32 [B] in [0, 1].

        1.0 only where every one is satisfied; with `strict`, 0.0 everywhere else. Tasks without
        constraints are not valid.

        Raises:
            ValueError: an image is not RGB, or a task constrains an attribute or asks for a value
                that the evaluator does not know (the message names it).
        """
        check_tasks(images, tasks)
        shares = []
        for seen, task in zip(self.attributes(images), tasks, strict=True):
            self._check_constraints(task)
            met = [seen[attribute] == value for attribute, value in task.constraints.items()]
            share = sum(met) / len(met) if met else 0.0
            shares.append(float(share == 1) if self.strict else share)
        valid = [bool(task.constraints) for task in tasks]
        return torch.tensor(shares, dtype=torch.float32), torch.tensor(valid, dtype=torch.bool)

    def attributes(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """The most likely value of every attribute, per image: ``{"scene": "beach", …}``."""
        probabilities = self.probabilities(images)
        named = [
            [values[column] for column in probabilities[attribute].argmax(-1).tolist()]
            for attribute, values in self.groups.items()
        ]
        return [dict(zip(self.groups, found, strict=True)) for found in zip(*named, strict=True)]

    def probabilities(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """By attribute, the probability of each value: float32 [B, values], which sum to 1."""
        check_images(images)
        logits = in_batches(images, self._encode, self.model.config.num_labels)
        groups = logits.split([len(values) for values in self.groups.values()], dim=1)
        return {name: group.softmax(-1) for name, group in zip(self.groups, groups, strict=True)}

    def _check_constraints(self, task: Task) -> None:
        for attribute, value in task.constraints.items():
            if value not in self.groups.get(attribute, ()):
                raise ValueError(f"task {task.id!r}: the evaluator knows no {attribute} {value!r}")

    @torch.no_grad()
    def _encode(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return self.model(pixels.to(self.device)).logits


def label_groups(id2label: dict[int, str]) -> dict[str, tuple[str, ...]]:
    """``{0: "scene:beach", …}`` → the values of each attribute, in the order of the logits.

    Raises:
        ValueError: a label is not ``"attribute:value"``, or an attribute's labels are scattered.
    """
    labels = [id2label[column].partition(":") for column in range(len(id2label))]
    groups = {
        attribute: tuple(value for _, _, value in own)
        for attribute, own in itertools.groupby(labels, key=lambda label: label[0])
    }
    if not all(colon for _, colon, _ in labels) or sum(map(len, groups.values())) < len(labels):
        raise ValueError("labels must read 'attribute:value', each attribute's side by side")
    return groups
