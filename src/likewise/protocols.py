"""What the method asks of its plug-ins. Anything with these methods fits; nothing to inherit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor
    from torch.nn import Parameter

    from likewise.types import Task


@runtime_checkable
class Reward(Protocol):
    """Scores images, each for its own task. Higher is better."""

    def score(self, images: Sequence[Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Score each image for the task at the same position, independently of the others.

        Returns:
            values: float32 [B].
            valid: bool [B]; false where this reward has nothing to say about a task. The value
                there is meaningless and must not be used.

        Raises:
            ValueError: something is not an RGB image, or the lengths differ.
        """
        ...


class Pending(Protocol):
    """Scores on their way.

    Attributes:
        counts: What happened meanwhile, by name (``failed/timeout``); complete after `result`.
        problem: Message why images are missing; empty if none is. After `result`.
    """

    counts: Mapping[str, float]
    problem: str

    def result(self, since: float) -> tuple[Tensor, Tensor]:
        """Values and valid, as `Reward.score`; what does not arrive in time is missing.

        Args:
            since: When waiting began, by ``time.monotonic``: the reward's own deadline counts from
                there, so that waiting for several of them takes no longer than for one.
        """
        ...


@runtime_checkable
class SlowReward(Reward, Protocol):
    """A reward that others compute, while this process does something else."""

    def submit(self, images: Sequence[Image], tasks: Sequence[Task]) -> Pending:
        """Begin to score; raises as `Reward.score`."""
        ...


@runtime_checkable
class GroupReward(Protocol):
    """Scores images by how they compare with the others of their group. Higher is better.

    A group may be drawn in parts, by several processes: each part is embedded where it is drawn,
    and compared once all parts are together.
    """

    def embed(self, images: Sequence[Image]) -> Tensor:
        """What a comparison needs to know of each image: float32 [B, D] on the CPU.

        Raises:
            ValueError: something is not an RGB image.
        """
        ...

    def compare(self, group: Tensor) -> Tensor:
        """Values float32 [n] of the n ≥ 2 images of one task, from their embeddings [n, D]."""
        ...


AnyReward = Reward | GroupReward


@runtime_checkable
class Encoder(Protocol):
    """Embeds images, so that cosines compare them."""

    def embed(self, images: Sequence[Image]) -> Tensor:
        """Embeddings float32 [B, D] on the CPU, each independent of the others; any length.

        Raises:
            ValueError: something is not an RGB image.
        """
        ...


@runtime_checkable
class TaskStream(Protocol):
    """Training tasks, as many as wanted: a dataset repeats itself, a made-up world need not."""

    def __call__(self, index: int) -> Task:
        """Task `index` ≥ 0; the same one whenever and wherever it is asked for."""
        ...


@runtime_checkable
class Condition(Protocol):
    """What a policy knows of a batch of tasks: encoded prompts and references, one entry per
    sample.

    Entries are independent of each other. Conditions are immutable and carry no gradient.
    """

    def __len__(self) -> int:
        """Number of entries B."""
        ...

    def repeat(self, times: int) -> Self:
        """Each entry `times` times in succession: [a, b] → [a, a, b, b], one group per task.

        Raises:
            ValueError: `times` < 1.
        """
        ...

    def select(self, indices: slice | Sequence[int]) -> Self:
        """The chosen entries, in the order asked for."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same entries on `device`."""
        ...


ConditionT = TypeVar("ConditionT", bound=Condition)


@runtime_checkable
class Policy(Protocol[ConditionT]):
    """A generator that draws tasks by denoising, and whose adapter can be trained.

    Latents x are float32 [B, *latent] in whatever layout the model likes; only the policy looks
    inside. σ runs from 1 (noise) towards 0 (image). A policy takes only conditions of its own
    making, hence the type parameter; who does not care writes plain ``Policy``.

    Attributes:
        parameterization: What `velocity` predicts: ``flow`` (noise − image), ``epsilon`` (the
            noise) or ``v_prediction``; the last two are drawn by DDIM only.
    """

    parameterization: str

    def encode(self, tasks: Sequence[Task]) -> ConditionT:
        """Encode prompt and reference of each task once, without gradient.

        Raises:
            ValueError: an empty prompt, or a reference that is not RGB or is too small.
        """
        ...

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal latents, float32 [B, *latent], sample b from seeds[b] alone.

        Drawn on the CPU, so a sample depends neither on the batch it is in nor on the device.
        """
        ...

    def sigmas(self, num_steps: int, shift: float | None) -> Tensor:
        """Noise levels of a sampling run, falling, [T+1] on the CPU.

        float32 from 1 to 0; where no flow is predicted, float64 σ = √(1 − ᾱ), which may start below
        1 and end above 0 (in float64, 1 − σ² gives back the float32 ᾱ exactly).

        Args:
            num_steps: T ≥ 1.
            shift: A static shift > 0; None for the rule that the model's own pipeline follows.
        """
        ...

    def velocity(self, x: Tensor, sigma: float | Tensor, condition: ConditionT) -> Tensor:
        """Predicted velocity at x, float32 of x's shape, guidance and sign already applied.

        Differentiable with respect to x and `trainable_parameters`. Samples do not influence
        each other.

        Args:
            x: Latents, float32 [B, *latent].
            sigma: Noise level of all samples, or of each [B].
            condition: B entries, on x's device.

        Raises:
            ValueError: shapes do not fit.
        """
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Images of finished latents: float32 [B, 3, H, W] in [0, 1], without gradient."""
        ...

    def trainable_parameters(self) -> list[Parameter]:
        """What training may change, always in the same order; float32 whatever the base is in."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """Write what training changed, bit for bit, to `folder` (made if missing)."""
        ...

    def load_adapter(self, folder: Path) -> None:
        """Read back what `save_adapter` wrote; parameters that exist are filled in place.

        Raises:
            ValueError: the folder holds no adapter, or one of another shape.
        """
        ...

    def adapter_disabled(self) -> AbstractContextManager[None]:
        """Within this context the policy is the frozen reference: as it was before training."""
        ...
