"""What lives at the same time on one GPU, phase by phase: sums of bytes, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from likewise.footprint.spread import Spread

GB = 2**30
# CUDA's context, kernels and workspaces, and what lies between blocks of the allocator.
CUDA_BYTES = GB


@dataclass(frozen=True)
class Needs:
    """Bytes that one process needs.

    Attributes:
        denoiser: Frozen weights of the trained part, as they are stored.
        reference: Frozen copy that full fine-tuning keeps for the KL.
        encoders: The pipeline's other parts, by name.
        rewards: Reward models, by the reward's name.
        trained: Trained parameters, float32.
        averaged: Whether there is a moving average of them.
        conditions: Encoded tasks.
        trajectories: Latents that updates will replay.
        encode, rollout, decode, score, update: Most that a micro-batch adds while it is worked on
            (one reference for `encode`).
        offload: Whether encoders and VAE wait on the CPU.
        extra: Of the device itself.
        bucket: Of gradients that share a message to other processes; 0: there are none.
        at_once: Whether AdamW steps all parameters together, as on a GPU: that takes their roots of
            second moments once more.
        spread: Where the denoiser and what is trained of it is in shards. Its sizes are of the
            whole, as without; `rollout` and `update` count what is put together.
    """

    denoiser: int
    reference: int
    encoders: Mapping[str, int]
    rewards: Mapping[str, int]
    trained: int
    averaged: bool
    conditions: int
    trajectories: int
    encode: int
    rollout: int
    decode: int
    update: int
    offload: bool
    extra: int = CUDA_BYTES
    score: int = 0
    bucket: int = 0
    at_once: bool = False
    spread: Spread | None = None

    @property
    def phases(self) -> dict[str, int]:
        """Peak of each phase of an iteration after the first, when all states exist."""
        stored = self._always + self.trajectories
        gradients = self.own(self.trained)
        message = min(self.bucket, gradients) if self.spread is None else 0  # as FSDP reduces them
        encoders = max(self._awake("text_encoder"), self._awake("vae", "image_encoder"))
        return {
            "encode": self._always + encoders + self.encode,
            "rollout": stored + self.rollout,
            "decode": stored + self._awake("vae") + self.decode,
            "score": stored + self.score,
            "update": stored + gradients + self.update,
            "step": stored + gradients + max(message, gradients * self.at_once),
            **self._loading,
        }

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    def own(self, size: int) -> int:
        """Of the denoiser's bytes, those that one process holds."""
        return size if self.spread is None else self.spread.share(size)

    @property
    def _loading(self) -> dict[str, int]:
        """Every process loads the whole denoiser before it keeps a part."""
        if self.spread is None:
            return {}
        kept = self.own(self.denoiser) + self.own(self.trained)
        return {"load": self._beside + self.spread.whole + kept}

    @property
    def _always(self) -> int:
        states = self.trained * (1 + 2 + self.averaged)  # themselves, AdamW's moments, average
        spread = self.own(self.denoiser) + self.own(self.reference) + self.own(states)
        return spread + self.conditions + self._beside

    @property
    def _beside(self) -> int:
        """Whatever is there from start to end, and in no shards."""
        waiting = 0 if self.offload else sum(self.encoders.values())
        return sum(self.rewards.values()) + waiting + self.extra

    def _awake(self, *names: str) -> int:
        """Offloaded parts whose names start like this: they are on the device together."""
        if not self.offload:
            return 0
        return sum(size for part, size in self.encoders.items() if part.startswith(names))


def stored_latents(images: int, trained: int, steps: int, means: bool) -> int:
    """How many latents an iteration keeps for its updates, at most.

    A trained step keeps where it starts and where it leads; the next one starts there. Each image
    keeps its finished latents too.

    Args:
        trained: Steps that are trained, of `steps`.
        means: Whether the means of transitions are kept (GRPO-Guard).
    """
    return images * (min(2 * trained, steps + 1) + 1 + means * trained)
