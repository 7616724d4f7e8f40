"""A recipe: everything that decides how a run trains, typed, with ranges and units.

Sections follow the method: policy and adapter, data, rewards, rollout, credit, objective,
optimiser, run; each is in a file of its own beside this one. Unknown keys are errors. Nothing here
imports torch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from likewise.config.adapters import Full, Lora
from likewise.config.credit_rules import Credit, Measured, Single
from likewise.config.cross_checks import check_evaluators, check_refresh
from likewise.config.data import Data, Stickers
from likewise.config.gradient_rules import check_gradients
from likewise.config.learning import Optimizer
from likewise.config.objectives import Forward, Grpo, Objective
from likewise.config.policy_sections import Custom, FluxKontext, Policy, SdIpAdapter
from likewise.config.rewards import InGroupDiversity, Reward
from likewise.config.rollout import TRANSITIONS, Rollout
from likewise.config.run import Run
from likewise.config.section import Section
from likewise.config.sharding import check_sharding, check_waits
from likewise.config.silent import silent_settings

DETERMINISTIC_ATTENTION = (None, "native", "_native_math")  # backends whose gradients are

STICKER_EVALUATORS = ("identity", "prompt")  # shipped with the sticker world


class Recipe(Section):
    """A whole training run."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="names the run directory")
    description: str = ""
    seed: int = Field(0, ge=0, description="everything random about the run follows from it")
    policy: Annotated[Policy, Field(discriminator="kind")] = Field(default_factory=FluxKontext)
    adapter: Annotated[Lora | Full, Field(discriminator="kind")] = Field(default_factory=Lora)
    data: Annotated[Data, Field(discriminator="kind")] = Field(default_factory=Stickers)
    rewards: dict[str, Reward] = Field(min_length=1)
    evaluators: dict[str, Reward] | None = Field(
        None,
        description="held-out evaluators: scorers as under rewards, which evaluations ask and "
        "training never sees; null: those shipped for stickers, and none for photos",
    )
    rollout: Rollout = Field(default_factory=Rollout)
    credit: Credit = Field(default_factory=Credit)
    objective: Objective = Field(default_factory=Grpo)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    run: Run = Field(default_factory=Run)

    @property
    def credited(self) -> dict[str, Reward]:
        """The rewards that credit is made of: all but diagnostics."""
        return {name: one for name, one in self.rewards.items() if one.side != "diagnostic"}

    @property
    def evaluator_names(self) -> tuple[str, ...]:
        """Names of the held-out evaluators that training's evaluations ask."""
        if self.evaluators is not None:
            return tuple(self.evaluators)
        return STICKER_EVALUATORS if isinstance(self.data, Stickers) else ()

    @model_validator(mode="after")
    def _credit_suits_rewards(self) -> Recipe:
        shaping = self.credit.shaping
        if not self.credited:
            raise ValueError("rewards are all diagnostics: give one of them a side")
        if isinstance(shaping, Single) and shaping.reward not in self.credited:
            raise ValueError(
                f"credit.shaping.reward is {shaping.reward!r}, but rewards are "
                f"{', '.join(self.credited)}"
            )
        if shaping.needs_several and len(self.credited) < 2:
            aside = ", diagnostics aside" if len(self.rewards) > len(self.credited) else ""
            raise ValueError(f"credit.shaping {shaping.kind!r} needs at least two rewards{aside}")
        weighed = {reward.side for reward in self.credited.values() if reward.weight > 0}
        if shaping.needs_both_sides and len(weighed) < 2:
            raise ValueError(
                f"credit.shaping {shaping.kind!r} needs a reward of side prompt and one of side "
                "identity, each with a weight above 0"
            )
        check_evaluators(self.evaluators or {}, self.credited)
        return self

    @model_validator(mode="after")
    def _gains_can_be_scored(self) -> Recipe:
        kind = self.credit.shaping.kind
        if not self.credit.shaping.needs_gains:
            return self
        if self.objective.forward:
            raise ValueError(
                f"credit.shaping {kind!r} is about the noise of stored steps, and objective "
                f"{self.objective.kind} draws none: use objective grpo, or another shaping"
            )
        for name, reward in self.credited.items():
            if isinstance(reward, InGroupDiversity):
                raise ValueError(
                    f"credit.shaping {kind!r} asks what an image is worth by itself, but "
                    f"rewards.{name} compares those of a group: make it a diagnostic"
                )
        return self

    @model_validator(mode="after")
    def _time_weights_suit_steps(self) -> Recipe:
        rule, steps = self.credit.time_weights, self.rollout.num_steps
        if isinstance(rule, Measured) and {len(rule.prompt), len(rule.identity)} != {steps}:
            raise ValueError(
                f"credit.time_weights has {len(rule.prompt)} shares of prompt and "
                f"{len(rule.identity)} of identity, but rollout.num_steps is {steps}: give one "
                "share per step, as likewise attribute measures them"
            )
        if isinstance(rule, Measured) and rule.refresh is not None:
            check_refresh(rule.refresh, self.rollout, self.objective)
        return self

    @model_validator(mode="after")
    def _transition_suits_policy_and_objective(self) -> Recipe:
        transition, facts = self.rollout.transition, self.rollout.transition_facts
        flow = not isinstance(self.policy, SdIpAdapter)
        if facts.flow != flow and not isinstance(self.policy, Custom):
            raise ValueError(
                f"rollout.transition {transition} does not suit policy {self.policy.kind}: "
                "ddim is for sd-ip-adapter, which predicts epsilon or v, and for it alone"
            )
        objective = self.objective
        if not isinstance(objective, Grpo):
            return self
        if objective.guard and not facts.noise_rate:
            valid = " and ".join(name for name, one in TRANSITIONS.items() if one.noise_rate)
            raise ValueError(f"objective.guard is valid for {valid}, not for {transition}")
        if objective.inverse_dt and not facts.flow:
            raise ValueError(f"objective.inverse_dt is for flows, not for {transition}")
        return self

    @model_validator(mode="after")
    def _finished_images_can_be_learned_from(self) -> Recipe:
        objective, kind = self.objective, self.objective.kind
        if not isinstance(objective, Forward):
            return self
        if self.rollout.shared_noise:
            raise ValueError(
                f"objective {kind} draws without noise but the first, so that images of a group "
                "would all be the same with rollout.shared_noise: leave it out"
            )
        if self.credit.time_weights.kind == "tdw-as-released":
            raise ValueError(
                "credit.time_weights tdw-as-released is about the order in which grpo trains "
                f"stored steps, and objective {kind} has none"
            )
        if isinstance(self.policy, SdIpAdapter):
            if objective.levels != "grid":
                raise ValueError(
                    f"objective.levels {objective.levels} is for flows: {self.policy.kind} knows "
                    "the noise levels of its schedule only, so use grid"
                )
            if objective.solver != "euler":
                raise ValueError(
                    f"objective.solver {objective.solver} is for flows: use euler, which is DDIM "
                    f"for {self.policy.kind}"
                )
        return self

    @model_validator(mode="after")
    def _updates_are_possible(self) -> Recipe:
        adapter = self.adapter
        own_reference = isinstance(adapter, Lora) and adapter.reference == "start"
        if own_reference and not self.objective.needs_reference:
            raise ValueError("adapter.reference start is for objective.kl, which is 0")
        updates, split = self.optimizer.updates_per_iteration, self.optimizer.split
        field = "group_size" if split == "samples" else "tasks"
        shared = self.rollout.group_size if split == "samples" else self.rollout.tasks
        if shared % updates:
            raise ValueError(
                f"optimizer.updates_per_iteration ({updates}) must divide rollout.{field} "
                f"({shared}) where optimizer.split is {split}"
            )
        if split == "samples" and self.objective.of_groups:
            raise ValueError(
                f"optimizer.split samples does not go with objective.kind {self.objective.kind}, "
                "whose loss is of whole groups: use tasks"
            )
        return self

    @model_validator(mode="after")
    def _gradients_can_be_told_apart(self) -> Recipe:
        sides = [reward.side for reward in self.credited.values()]
        check_gradients(self.optimizer.gradients, self.credit, sides, self.objective)
        return self

    @model_validator(mode="after")
    def _numerics_are_as_asked(self) -> Recipe:
        objective = self.objective
        if self.policy.compile and isinstance(objective, Grpo) and not objective.ratio_tolerance:
            raise ValueError(
                "policy.compile computes rollout and replay by two programs, whose last bits "
                "differ: set objective.ratio_tolerance, well below objective.clip_range"
            )
        if self.policy.offload_activations and not self.policy.gradient_checkpointing:
            raise ValueError(
                "policy.offload_activations is about what policy.gradient_checkpointing keeps: "
                "all activations would take longer to move than to compute; set both"
            )
        attention = self.policy.attention
        if self.run.deterministic and attention not in DETERMINISTIC_ATTENTION:
            raise ValueError(
                f"run.deterministic does not go with policy.attention {attention!r}, whose "
                "backward pass is not deterministic: leave it out, or use native"
            )
        return self

    @model_validator(mode="after")
    def _processes_can_work_together(self) -> Recipe:
        check_sharding(self)
        check_waits(self)
        return self

    @model_validator(mode="after")
    def _everything_counts(self) -> Recipe:
        silent = list(silent_settings(self))
        if silent:
            raise ValueError("; ".join(silent))
        return self
