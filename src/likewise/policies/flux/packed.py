"""Policies whose latents are FLUX's tokens, as the stock pipelines of FLUX.1 and Qwen-Image are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from likewise.algorithm.schedule import shifted_sigmas
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.sampling_inputs import seeded_noise
from likewise.policies.flux.tokens import Grid, pack, pipeline_sigmas


class PackedLatents(PipelinePolicy):
    """Latents x are packed tokens [B, h·w, 4C].

    Attributes:
        grid: Rows and columns (h, w) of the tokens of an image.
    """

    grid: Grid

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.denoiser.config.in_channels

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """As the float32 stock pipeline with ``torch.Generator().manual_seed(seed)`` each."""
        shape = (self.denoiser.config.in_channels // 4, 2 * self.grid[0], 2 * self.grid[1])
        return pack(seeded_noise(shape, seeds)).to(self.device)

    def sigmas(self, num_steps: int, shift: float | None = None) -> Tensor:
        if shift is not None:
            return shifted_sigmas(num_steps, shift)
        return pipeline_sigmas(self.pipeline.scheduler, num_steps, self.grid[0] * self.grid[1])
