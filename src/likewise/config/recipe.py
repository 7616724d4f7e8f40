"""A recipe: everything that decides how a run trains, typed, with ranges and units.

Sections follow the method: policy and adapter, data, rewards, rollout, credit, objective,
optimiser, run. Unknown keys are errors. This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from likewise.config.data import Data, Stickers
from likewise.config.policies import Custom, FluxKontext, Policy, SdIpAdapter
from likewise.config.rewards import Reward
from likewise.config.section import Section

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


# --- what is trained -----------------------------------------------------------------------------


class Lora(Section):
    """Low-rank adapter by PEFT; the scale is alpha / rank."""

    kind: Literal["lora"] = "lora"
    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: str | list[str] = Field(
        "attention", description="a preset of the policy, or endings of module names"
    )


class Full(Section):
    """Every weight of the transformer, in float32."""

    kind: Literal["full"] = "full"


# --- how pictures are drawn ----------------------------------------------------------------------


class AllSteps(Section):
    """Every stochastic step is trained."""

    kind: Literal["all"] = "all"


class RandomSteps(Section):
    """A random share of the steps, drawn anew in every iteration (the paper: 0.6)."""

    kind: Literal["random"] = "random"
    fraction: Fraction = 0.6


class WindowSteps(Section):
    """A window of steps is stochastic and trained, the others follow the ODE (MixGRPO)."""

    kind: Literal["window"] = "window"
    size: PositiveInt = Field(4, description="steps")
    first: int = Field(0, ge=0, description="earliest start of the window")
    last: int | None = Field(None, ge=0, description="latest start; default: as far as it goes")
    order: Literal["forward", "random"] = Field(
        "random", description="how the start moves: one step at a time, or at random"
    )
    every: PositiveInt = Field(1, description="iterations between moves")


TrainedSteps = Annotated[AllSteps | RandomSteps | WindowSteps, Field(discriminator="kind")]


class Rollout(Section):
    """One iteration's pictures: `tasks` groups of `group_size` members each."""

    tasks: PositiveInt = Field(16, description="groups per iteration, over all processes")
    group_size: int = Field(12, ge=2, description="pictures per task; the paper 12")
    num_steps: PositiveInt = Field(6, description="sampling steps T")
    shift: PositiveFloat | None = Field(None, description="static; null: the pipeline's own rule")
    transition: Literal["flow-sde", "dance-sde", "cps", "ddim"] = Field(
        "flow-sde", description="ddim for models that predict epsilon or v, the others for flows"
    )
    noise_level: PositiveFloat = Field(
        0.7,
        description="a of Flow-SDE and CPS (0.7), eta of Dance-SDE (the paper 0.4) and DDIM (1)",
    )
    deterministic_tail: int = Field(
        0, ge=0, description="last steps that follow the ODE, so that no noise stays in pictures"
    )
    trained: TrainedSteps = Field(default_factory=RandomSteps)
    shared_noise: bool = Field(True, description="one initial noise per group (the paper)")
    micro_batch: PositiveInt = Field(16, description="pictures per forward, in rollout and update")

    @model_validator(mode="after")
    def _steps_fit(self) -> Rollout:
        stochastic = self.num_steps - self.deterministic_tail
        if stochastic < 1:
            raise ValueError("deterministic_tail must leave at least one of num_steps")
        if self.transition in ("cps", "ddim") and self.deterministic_tail < 1:
            raise ValueError(
                f"the last step of {self.transition} has no density to train: "
                "set deterministic_tail to 1 or more"
            )
        if self.transition in ("cps", "ddim") and self.noise_level > 1:
            raise ValueError(f"noise_level of {self.transition} must be at most 1")
        if self.transition == "ddim" and self.shift is not None:
            raise ValueError("shift is for flows: leave it out with ddim")
        if self.transition == "flow-sde" and self.num_steps < 2:
            raise ValueError("flow-sde needs num_steps of at least 2")
        if isinstance(self.trained, WindowSteps):
            latest = stochastic - self.trained.size
            last = latest if self.trained.last is None else self.trained.last
            if not 0 <= self.trained.first <= last <= latest:
                raise ValueError(
                    f"trained: a window of {self.trained.size} in {stochastic} stochastic steps "
                    f"can start at 0 to {latest}, not at {self.trained.first} to {last}"
                )
        return self


# --- who gets credit -----------------------------------------------------------------------------


class Sars(Section):
    """Synergy-Aware Reward Shaping: a bonus on top of the weighted sum (the paper)."""

    kind: Literal["sars"] = "sars"
    gamma: NonNegativeFloat = Field(0.4, description="the paper's run 0.4, also 0.5")


class HarmonicBonus(Section):
    """Half the harmonic mean, made safe, as a bonus on top of the weighted sum."""

    kind: Literal["harmonic"] = "harmonic"
    gamma: NonNegativeFloat = 0.4


class NoShaping(Section):
    """The weighted sum of z-scores alone: the naive baseline."""

    kind: Literal["none"] = "none"


class Total(Section):
    """A rival that replaces the weighted sum. `weight` of each reward counts where marked *.

    minimum, maximum, product: of z-scores. weighted-sum*: of z-scores. gdpo*: that, normalised over
    the batch. raw-sum*: of raw rewards, then one z-score (Flow-GRPO).
    """

    kind: Literal["minimum", "maximum", "product", "weighted-sum", "gdpo", "raw-sum"]


class Single(Section):
    """Train on one reward only; the others are measured."""

    kind: Literal["single"] = "single"
    reward: str = Field(description="its key under `rewards`")


Shaping = Annotated[Sars | HarmonicBonus | NoShaping | Total | Single, Field(discriminator="kind")]


class Tdw(Section):
    """Time-Aware Dynamic Weighting of the prompt side, or a rival with the same three weights."""

    kind: Literal["tdw", "reversed-tdw", "tdw-as-released"] = "tdw"
    high: Share = 0.7
    low: Share = 0.3
    final: Share = 0.5


class Constant(Section):
    """The same weights at every step."""

    kind: Literal["constant"] = "constant"
    prompt: Share = Field(0.5, description="of the prompt side; identity has the rest")


class Measured(Section):
    """By how much the noise of each step moves the rewards of each side: `likewise attribute`."""

    kind: Literal["measured"] = "measured"
    prompt: list[NonNegativeFloat] = Field(
        description="share of each of num_steps steps in the prompt rewards' variance"
    )
    identity: list[NonNegativeFloat] = Field(description="likewise of the identity rewards'")

    @model_validator(mode="after")
    def _somewhere(self) -> Measured:
        for side in ("prompt", "identity"):
            if not any(getattr(self, side)):
                raise ValueError(f"{side} needs at least one share above 0")
        return self


TimeWeights = Annotated[Tdw | Constant | Measured, Field(discriminator="kind")]


class Credit(Section):
    """From raw rewards to advantages."""

    shaping: Shaping = Field(default_factory=Sars)
    time_weights: TimeWeights = Field(default_factory=Tdw)
    clip: PositiveFloat = Field(5.0, description="bound of |advantage|")
    std_floor: NonNegativeFloat = Field(
        1e-6, description="groups whose rewards differ less give no credit; units of the reward"
    )

    @model_validator(mode="after")
    def _totals_ignore_time(self) -> Credit:
        if isinstance(self.shaping, Total | Single) and not isinstance(self.time_weights, Constant):
            raise ValueError(
                f"shaping {self.shaping.kind!r} does not depend on the step: "
                "set time_weights.kind to constant"
            )
        return self


# --- how the policy learns from it ---------------------------------------------------------------


class Objective(Section):
    """The clipped surrogate and its options."""

    clip_range: PositiveFloat = 1e-4
    kl: NonNegativeFloat = Field(0.0, description="weight of the KL to the frozen reference")
    guard: bool = Field(False, description="GRPO-Guard's normalised ratio; not for cps")
    inverse_dt: bool = Field(False, description="weigh terms by 1/(length of their step)")
    ratio_tolerance: NonNegativeFloat = Field(
        0.0, description="largest |ratio - 1| allowed before the first update"
    )


class Optimizer(Section):
    """AdamW with a learning-rate schedule of diffusers."""

    learning_rate: PositiveFloat = 1e-4
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 1.1e-4
    max_grad_norm: PositiveFloat = 1.0
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0, description="optimiser steps")
    updates_per_iteration: PositiveInt = Field(
        1, description="optimiser steps per iteration, each on its share of the pictures"
    )
    ema_decay: Decay | None = Field(None, description="null: no moving average of the adapter")

    @model_validator(mode="after")
    def _warmup_counts(self) -> Optimizer:
        if self.warmup_steps and self.schedule == "constant":
            raise ValueError("schedule constant has no warmup_steps: use constant_with_warmup")
        return self


# --- the run -------------------------------------------------------------------------------------


class Evaluation(Section):
    """A fixed set of tasks, drawn without noise every so often."""

    every: int = Field(10, ge=0, description="iterations; 0: never")
    tasks: PositiveInt = 32
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
    processes: PositiveInt | Literal["auto"] = Field(
        "auto", description="auto: one per GPU, or one per CPU core up to 4"
    )
    threads: PositiveInt | Literal["auto"] = Field(
        "auto", description="per process on a CPU; a resumed run keeps them, as sums depend on them"
    )
    evaluation: Evaluation = Field(default_factory=Evaluation)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(["tensorboard"])
    patience: PositiveInt = Field(
        3, description="consecutive iterations without any credit before the run gives up"
    )


class Recipe(Section):
    """A whole training run."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="names the run directory")
    description: str = ""
    seed: int = Field(0, ge=0, description="everything random about the run follows from it")
    policy: Annotated[Policy, Field(discriminator="kind")] = Field(default_factory=FluxKontext)
    adapter: Annotated[Lora | Full, Field(discriminator="kind")] = Field(default_factory=Lora)
    data: Annotated[Data, Field(discriminator="kind")] = Field(default_factory=Stickers)
    rewards: dict[str, Reward] = Field(min_length=1)
    rollout: Rollout = Field(default_factory=Rollout)
    credit: Credit = Field(default_factory=Credit)
    objective: Objective = Field(default_factory=Objective)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    run: Run = Field(default_factory=Run)

    @property
    def credited(self) -> dict[str, Reward]:
        """The rewards that credit is made of: all but diagnostics."""
        return {name: one for name, one in self.rewards.items() if one.side != "diagnostic"}

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        shaping = self.credit.shaping
        if not self.credited:
            raise ValueError("rewards are all diagnostics: give one of them a side")
        if isinstance(shaping, Single) and shaping.reward not in self.credited:
            raise ValueError(
                f"credit.shaping.reward is {shaping.reward!r}, but rewards are "
                f"{', '.join(self.credited)}"
            )
        pairs = isinstance(shaping, Sars | HarmonicBonus) or (
            shaping.kind in ("minimum", "maximum", "product")
        )
        if pairs and len(self.credited) < 2:
            raise ValueError(f"credit.shaping {shaping.kind!r} needs at least two rewards")
        rule, steps = self.credit.time_weights, self.rollout.num_steps
        if isinstance(rule, Measured) and {len(rule.prompt), len(rule.identity)} != {steps}:
            raise ValueError(
                f"credit.time_weights has {len(rule.prompt)} shares of prompt and "
                f"{len(rule.identity)} of identity, but rollout.num_steps is {steps}: give one "
                "share per step, as likewise attribute measures them"
            )
        transition = self.rollout.transition
        flow = not isinstance(self.policy, SdIpAdapter)
        if (transition == "ddim") == flow and not isinstance(self.policy, Custom):
            raise ValueError(
                f"rollout.transition {transition} does not suit policy {self.policy.kind}: "
                "ddim is for sd-ip-adapter, which predicts epsilon or v, and for it alone"
            )
        if self.objective.guard and transition in ("cps", "ddim"):
            raise ValueError(
                f"objective.guard is valid for flow-sde and dance-sde, not for {transition}"
            )
        if self.objective.inverse_dt and transition == "ddim":
            raise ValueError("objective.inverse_dt is for flows, not for ddim")
        updates = self.optimizer.updates_per_iteration
        if self.rollout.tasks % updates:
            raise ValueError(
                f"optimizer.updates_per_iteration ({updates}) must divide rollout.tasks "
                f"({self.rollout.tasks})"
            )
        return self
