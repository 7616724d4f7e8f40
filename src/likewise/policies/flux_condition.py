"""Encoded tasks for FLUX Kontext: text, pooled text and reference tokens, one row per task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import FluxKontextPipeline
from torch import Tensor

from likewise.policies.flux_tokens import Grid, pack, reference_size
from likewise.types import Task

Device = torch.device | str


@dataclass(frozen=True, eq=False)
class Text:
    """A prompt: T5 states [S, D] and CLIP's pooled state [P], in the model's dtype."""

    states: Tensor
    pooled: Tensor

    def to(self, device: Device) -> Text:
        return Text(self.states.to(device), self.pooled.to(device))


@dataclass(frozen=True, eq=False)
class FluxRow:
    """One task: its text and its reference's tokens [h·w, 4C] on a grid (h, w)."""

    text: Text
    reference: Tensor
    grid: Grid

    def to(self, device: Device) -> FluxRow:
        return FluxRow(self.text.to(device), self.reference.to(device), self.grid)


@dataclass(frozen=True, eq=False)
class FluxCondition:
    """Implements :class:`likewise.protocols.Condition`.

    Repeated rows are the same object, so a group costs the memory of one task (T5's states of one
    prompt are 4 MB at full scale); they are stacked only inside a forward.

    Attributes:
        rows: One per task.
        unwanted: The negative prompt of true CFG, common to all rows; None without.
    """

    rows: tuple[FluxRow, ...]
    unwanted: Text | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def repeat(self, times: int) -> FluxCondition:
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        return FluxCondition(tuple(row for row in self.rows for _ in range(times)), self.unwanted)

    def select(self, rows: slice | Sequence[int]) -> FluxCondition:
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        return FluxCondition(tuple(self.rows[row] for row in chosen), self.unwanted)

    def to(self, device: Device) -> FluxCondition:
        moved = {id(row): row.to(device) for row in {id(row): row for row in self.rows}.values()}
        unwanted = None if self.unwanted is None else self.unwanted.to(device)
        return FluxCondition(tuple(moved[id(row)] for row in self.rows), unwanted)

    def by_grid(self) -> list[list[int]]:
        """Row numbers grouped by the size of their reference, in order of first appearance.

        FLUX shares one set of position ids per forward, so only such rows can share a forward.
        """
        groups: dict[Grid, list[int]] = {}
        for number, row in enumerate(self.rows):
            groups.setdefault(row.grid, []).append(number)
        return list(groups.values())


def encode_task(
    pipeline: FluxKontextPipeline, task: Task, max_sequence_length: int, auto_resize: bool
) -> FluxRow:
    """Encode prompt and reference as ``FluxKontextPipeline.__call__`` does.

    Raises:
        ValueError: the prompt is empty, or the reference is not RGB or too small.
    """
    image, multiple, vae = task.reference, 2 * pipeline.vae_scale_factor, pipeline.vae
    if not task.prompt.strip():
        raise ValueError(f"task {task.id!r} has an empty prompt")
    if image.mode != "RGB":
        raise ValueError(f"the reference of task {task.id!r} has mode {image.mode}, not RGB")
    try:
        height, width = reference_size(image, multiple, auto_resize)
    except ValueError as error:
        raise ValueError(f"task {task.id!r}: {error}") from error
    pixels = pipeline.image_processor.preprocess(image, height, width)
    # The distribution's mode, not a draw: as stock, and no randomness without a seed.
    latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    text = encode_text(pipeline, task.prompt, max_sequence_length)
    return FluxRow(text, pack(latents)[0], (height // multiple, width // multiple))


def encode_text(pipeline: FluxKontextPipeline, prompt: str, max_sequence_length: int) -> Text:
    """T5 states of the first `max_sequence_length` tokens, and CLIP's pooled state."""
    states, pooled, _ = pipeline.encode_prompt(prompt, max_sequence_length=max_sequence_length)
    return Text(states[0], pooled[0])
