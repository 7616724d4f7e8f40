"""How long a run takes, where it runs, and what it writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from likewise.config.section import Section


class Evaluation(Section):
    """A fixed set of tasks, drawn without noise every so often."""

    every: int = Field(10, ge=0, description="iterations; 0: never")
    tasks: PositiveInt = Field(32, le=100_000)
    grid: PositiveInt = Field(8, description="how many of them the sample grid shows")


class Checkpoints(Section):
    """What a run can go on from; the best one by the rewards of the evaluation set stays too."""

    every: PositiveInt = Field(10, description="iterations")
    keep: PositiveInt = Field(2, description="newest ones to keep, beside the best")


class Run(Section):
    """How long, where, and what is written."""

    iterations: PositiveInt = 50
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where there is one"
    )
    processes: Annotated[PositiveInt, Field(le=65536)] | Literal["auto"] = Field(
        "auto", description="auto: one per GPU, or one per CPU core up to 4"
    )
    threads: Annotated[PositiveInt, Field(le=4096)] | Literal["auto"] = Field(
        "auto", description="per process on a CPU; a resumed run keeps them, as sums depend on them"
    )
    sharding: Literal["none", "fsdp2", "hybrid"] = Field(
        "none",
        description="none: every process holds the whole denoiser; fsdp2: weights, gradients and "
        "optimiser are spread over all processes; hybrid: over those of a machine",
    )
    shard_size: PositiveInt | None = Field(
        None, description="processes that share a copy with hybrid; null: those of a machine"
    )
    timeout: PositiveInt = Field(
        3600,
        ge=60,
        description="seconds that one process waits for the others before the run ends",
    )
    deterministic: bool = Field(
        False,
        description="use deterministic algorithms on a GPU, more slowly, so that equal runs are "
        "equal bit for bit; on a CPU they are without it",
    )
    evaluation: Evaluation = Field(default_factory=Evaluation)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(["tensorboard"])
    patience: PositiveInt = Field(
        3, description="consecutive iterations without any credit before the run gives up"
    )

    @property
    def settled_processes(self) -> int:
        """`processes` of a recipe that was settled for a machine (see `api.training.settle`).

        Raises:
            ValueError: it is still ``auto``.
        """
        if self.processes == "auto":
            raise ValueError("run.processes is auto: settle the recipe first")
        return self.processes
