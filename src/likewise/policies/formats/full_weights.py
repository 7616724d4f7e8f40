"""A fully tuned denoiser as a folder that diffusers loads."""

from __future__ import annotations

from pathlib import Path

import torch

from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.pretrained.models import load_model
from likewise.tensors import save_pretrained


class FullWeightsExport:
    """The denoiser of a policy that trained all of it, float32."""

    reader = "diffusers' from_pretrained"

    def __init__(self, policy: PipelinePolicy) -> None:
        self.denoiser = policy.denoiser

    def write(self, out: Path) -> None:
        save_pretrained(self.denoiser, out)

    def read(self, out: Path) -> float:
        saved = load_model(type(self.denoiser), out, dtype=torch.float32).state_dict()
        errors = [
            float((saved[name].to(mine.device) - mine).norm() / mine.norm().clamp_min(1e-30))
            for name, mine in self.denoiser.state_dict().items()
        ]
        self.denoiser.load_state_dict(saved)
        return max(errors)
