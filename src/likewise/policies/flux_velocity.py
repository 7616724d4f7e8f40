"""One velocity of a batch from FLUX's transformer: guidance, and references of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from likewise.algorithm.schedule import model_time
from likewise.policies.flux_condition import FluxCondition, FluxRow, Text
from likewise.policies.flux_tokens import Grid, position_ids


@dataclass(frozen=True)
class Guidance:
    """How strongly the model follows the prompt.

    Attributes:
        embedded: Scale that a guidance-distilled model takes as an input; others ignore it.
        true_cfg_scale: s ≥ 1 in v = v⁻ + s·(v⁺ − v⁻) (classifier-free guidance, 2207.12598), where
            v⁻ is for the negative prompt; 1 is off.
        batched: v⁺ and v⁻ in one forward of twice the batch.
    """

    embedded: float = 3.5
    true_cfg_scale: float = 1.0
    batched: bool = False

    def __post_init__(self) -> None:
        if not self.true_cfg_scale >= 1:
            raise ValueError(f"true_cfg_scale must be at least 1, not {self.true_cfg_scale}")

    @property
    def against_negative(self) -> bool:
        return self.true_cfg_scale > 1


def batch_velocity(
    transformer: Any,
    x: Tensor,
    sigma: float | Tensor,
    condition: FluxCondition,
    grid: Grid,
    guidance: Guidance,
    dtype: torch.dtype,
) -> Tensor:
    """Velocity (noise − picture) at x, float32 [B, L, 4C]; inputs go into the model in `dtype`.

    Rows whose references differ in size go through the transformer in turn.

    Raises:
        ValueError: shapes do not fit, or true CFG on a condition without negative prompt.
    """
    tokens, channels = grid[0] * grid[1], transformer.config.in_channels
    if x.shape != (len(condition), tokens, channels):
        raise ValueError(
            f"latents are {list(x.shape)}; {len(condition)} conditions of this model and picture "
            f"size need {[len(condition), tokens, channels]}"
        )
    level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device)
    if level.shape not in ((), (len(x),)):
        raise ValueError(f"sigma is {list(level.shape)}: wanted a number, or one for each row")
    time = model_time(level, dtype).expand(len(x))

    def guided(numbers: list[int] | slice, rows: Sequence[FluxRow]) -> Tensor:
        part = _Part(transformer, x[numbers].to(dtype), time[numbers], rows, grid, guidance)
        return part.guided(condition.unwanted)

    groups = condition.by_grid()
    if len(groups) == 1:
        return guided(slice(None), condition.rows)
    parts = [guided(group, [condition.rows[row] for row in group]) for group in groups]
    order = torch.tensor([row for group in groups for row in group], device=x.device)
    return torch.cat(parts)[order.argsort()]


@dataclass(frozen=True)
class _Part:
    """Rows that share a forward: latents [b, L, 4C] and times [b] in the model's dtype."""

    transformer: Any
    x: Tensor
    time: Tensor
    rows: Sequence[FluxRow]
    grid: Grid
    guidance: Guidance

    def guided(self, unwanted: Text | None) -> Tensor:
        """Velocity with true CFG where asked for, float32 [b, L, 4C]."""
        wanted = [row.text for row in self.rows]
        if not self.guidance.against_negative:
            return self._predict(wanted)
        if unwanted is None:
            raise ValueError("true CFG needs a condition that was encoded with it switched on")
        if self.guidance.batched:
            positive, negative = self._predict(wanted + [unwanted] * len(wanted)).chunk(2)
        else:
            positive, negative = self._predict(wanted), self._predict([unwanted] * len(wanted))
        return negative + self.guidance.true_cfg_scale * (positive - negative)

    def _predict(self, texts: list[Text]) -> Tensor:
        """One forward: float32 [n, L, 4C] for n texts, a whole multiple of the rows."""
        times = len(texts) // len(self.rows)
        reference = torch.stack([row.reference for row in self.rows])
        tokens = torch.cat([self.x, reference], dim=1).repeat(times, 1, 1)
        states = torch.stack([text.states for text in texts])
        own, other = position_ids(self.grid, 0), position_ids(self.rows[0].grid, 1)
        scale = None
        if self.transformer.config.guidance_embeds:
            scale = torch.full((len(texts),), self.guidance.embedded, device=self.x.device)
        output = self.transformer(
            hidden_states=tokens,
            timestep=self.time.repeat(times),
            guidance=scale,
            pooled_projections=torch.stack([text.pooled for text in texts]),
            encoder_hidden_states=states,
            txt_ids=torch.zeros(states.shape[1], 3, device=self.x.device),
            img_ids=torch.cat([own, other]).to(self.x.device),
            return_dict=False,
        )[0]
        return output[:, : self.x.shape[1]].float()
