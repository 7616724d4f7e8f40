"""What a run will need on each GPU, worked out on any machine and without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from likewise.api.planned_scorers import Scorers
from likewise.builders.datasets import build_stream
from likewise.builders.model_names import model_path
from likewise.builders.policies import add_adapter, copy_size, keep_blank_uno, policy_class
from likewise.config.adapters import Lora
from likewise.config.data import Stickers
from likewise.config.layers import apply, parse_override
from likewise.config.objectives import Grpo
from likewise.config.policy_sections import Custom, SdIpAdapter
from likewise.config.recipe import Recipe
from likewise.config.rewards import VlmJudge
from likewise.devices import dtype_of
from likewise.footprint import remedies
from likewise.footprint.meta import add_ip_adapter, weightless_pipeline
from likewise.footprint.peaks import Size
from likewise.footprint.phases import CUDA_BYTES, Needs, stored_latents
from likewise.footprint.remedies import Change
from likewise.footprint.spread import Spread, spread_of
from likewise.footprint.traced import Phase, Traced
from likewise.footprint.weight_bytes import parts, saved_by, working_copy
from likewise.pretrained.first_use import first_use
from likewise.trainer.plan import plan_of, trained_at_fork, trained_steps
from likewise.trainer.reducing import BUCKET_BYTES

GPUS_OF_A_MACHINE = 8  # for run.sharding hybrid where run.shard_size does not say
PHOTO: Size = (1024, 1024)  # of a reference whose size is not known; policies resize it
# Settings of a policy that nothing traced depends on; and what its class does not take.
ASIDE = {"gradient_checkpointing", "compile", "attention", "offload", "cache", "quantization"}
ASIDE |= {"uno_lora", "merge_uno", "offload_activations"}
LOADED = {"kind", "model", "dtype", "target", "options"}
LOADED |= {"ip_adapter", "ip_adapter_weights", "image_encoder"}


@dataclass(frozen=True)
class Memory:
    """What a recipe needs.

    Attributes:
        needs: Bytes of one process.
        batch: Images of a micro-batch.
        plain, checkpointed: Bytes of an update's activations, without and with checkpointing.
        parameters: Number of parameters of each part of the pipeline.
        trained: Number of parameters that are trained.
        uncounted: Rewards and evaluators whose size is not known.
        elsewhere: Bytes of reward models on other devices than those of the processes.
    """

    needs: Needs
    batch: int
    plain: int
    checkpointed: int
    parameters: dict[str, int]
    trained: int
    uncounted: tuple[str, ...]
    elsewhere: dict[str, int]


class Planner:
    """Works out recipes that differ little; what was traced for one serves the others.

    Args:
        gpu: Whether it is for GPUs; else for the CPU of this machine.
    """

    def __init__(self, gpu: bool = True) -> None:
        self.gpu = gpu
        self._traced: dict[str, Traced] = {}
        self.scorers = Scorers(gpu)

    def memory(self, recipe: Recipe) -> Memory:
        """What a recipe needs; its `run.processes` must be a number.

        Raises:
            ValueError: a model is neither a directory nor described, or something does not fit.
        """
        traced = self._trace(recipe)
        policy = traced.policy
        with first_use(recipe.policy.model, policy.pipeline.components, policy.denoiser_name):
            return self._memory(recipe, traced)

    def _memory(self, recipe: Recipe, traced: Traced) -> Memory:
        batch = micro_batch(recipe)
        settings, denoiser = recipe.policy, traced.policy.denoiser
        unpacking = 0
        if settings.quantization is not None:
            unpacking = working_copy(denoiser, traced.policy.dtype)
        learned = update_batch(recipe)
        plain = traced.at("update", learned) + unpacking
        kept: Phase = "offloaded" if settings.offload_activations else "checkpointed"
        checkpointed = traced.at(kept, learned) + unpacking
        rewards, elsewhere = self.scorers.sizes(recipe, _of_a_machine(recipe))
        sizes = parts(traced.policy)
        frozen = sizes.pop(traced.policy.denoiser_name)
        if settings.quantization is not None:
            frozen -= saved_by(settings.quantization, denoiser)
        needs = Needs(
            denoiser=frozen,
            reference=traced.reference,
            encoders=sizes,
            rewards={name: size for name, size in rewards.items() if size is not None},
            trained=traced.trained,
            averaged=recipe.optimizer.ema_decay is not None,
            conditions=plan_of(recipe).busiest.tasks * traced.condition,
            trajectories=_kept(recipe) * traced.latents,
            encode=traced.encode,
            rollout=traced.at("rollout", batch) + unpacking,
            score=self.scorers.peak(recipe, batch, _of_a_machine(recipe)),
            decode=traced.at("decode", min(batch, recipe.rollout.decode_batch or batch)),
            update=checkpointed if settings.gradient_checkpointing else plain,
            offload=settings.offload and self.gpu,
            extra=CUDA_BYTES if self.gpu else 0,
            bucket=0 if recipe.run.processes == 1 else BUCKET_BYTES,
            at_once=self.gpu,
            spread=self._spread(recipe, traced.policy),
        )
        unknown = tuple(name for name, size in rewards.items() if size is None)
        counts = _count_parameters(traced.policy)
        return Memory(needs, batch, plain, checkpointed, *counts, unknown, elsewhere)

    def remedies(self, recipe: Recipe, limit: int) -> list[tuple[Change, int]]:
        """Changes with which it needs no more than `limit` bytes, and how many it needs then."""

        def needed(change: Change) -> int:
            try:
                return self.memory(changed(recipe, change)).needs.peak
            except ValueError:
                return limit + 1  # not possible with this recipe

        return remedies.fitting(_choices(recipe), needed, limit)

    def _spread(self, recipe: Recipe, policy: Any) -> Spread | None:
        """How the denoiser is spread over processes; None where each has all of it."""
        size = _copy_size(recipe)
        return None if size == 1 else spread_of(policy.denoiser, size, policy.dtype)

    def _trace(self, recipe: Recipe) -> Traced:
        settings, references = recipe.policy.model_dump(exclude=ASIDE), reference_sizes(recipe)
        against_reference = recipe.objective.needs_reference
        size = _copy_size(recipe)
        key = repr((settings, recipe.adapter, references, against_reference, size))
        known = self._traced.get(key)
        if known is None or known.batch < micro_batch(recipe):
            self._traced[key] = Traced(
                lambda: weightless_policy(recipe),
                lambda policy: add_adapter(recipe, policy),
                references,
                micro_batch(recipe),
                against_reference,
                self.gpu,
                size,
            )
        return self._traced[key]


def for_gpus(recipe: Recipe, count: int | None) -> Recipe:
    """The recipe on so many GPUs; without a number, on as many as it says, else on one."""
    said = recipe.run.processes
    processes = count or (said if isinstance(said, int) else 1)
    run = recipe.run.model_copy(update={"device": "cuda", "processes": processes, "threads": 1})
    dtype = "bfloat16" if recipe.policy.dtype == "auto" else recipe.policy.dtype
    policy = recipe.policy.model_copy(update={"dtype": dtype})
    return recipe.model_copy(update={"policy": policy, "run": run})


def changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with overrides. Raises ValueError where the result is not a valid recipe."""
    changes = [parse_override(text) for text in overrides]
    return Recipe.model_validate(apply(changes, recipe.model_dump()))


def missing(recipe: Recipe) -> list[str]:
    """Models and data that a recipe names and this machine does not have in a folder."""
    policy, data = recipe.policy, recipe.data
    models = [policy.model, *(getattr(policy, name, None) for name in ("uno_lora", "ip_adapter"))]
    for reward in (*recipe.rewards.values(), *(recipe.evaluators or {}).values()):
        if not isinstance(reward, VlmJudge):  # its model is at the endpoint
            fields = ("model", "base", "processor", "segmenter")
            models += [getattr(reward, name, None) for name in fields]
    named = [name for name in models if name and ":" not in name]  # module:function is not a file
    gone = [name for name in named if not Path(model_path(name)).exists()]
    if not isinstance(data, Stickers) and not Path(data.path).exists():
        gone.append(data.path)
    return list(dict.fromkeys(gone))


def micro_batch(recipe: Recipe) -> int:
    """Images that the busiest process works on at a time."""
    share = plan_of(recipe).busiest.images // recipe.optimizer.updates_per_iteration
    return max(1, min(recipe.rollout.micro_batch, share))


def update_batch(recipe: Recipe) -> int:
    """Most latents of a forward with gradient: a group is one where its samples still are."""
    paths = not recipe.objective.forward
    if paths and trained_at_fork(recipe.rollout) == trained_steps(recipe.rollout):  # nowhere else
        return min(micro_batch(recipe), plan_of(recipe).busiest.tasks)
    return micro_batch(recipe)


def reference_sizes(recipe: Recipe) -> list[Size]:
    """Height and width of each reference of a task."""
    if isinstance(recipe.data, Stickers):
        return [(one.height, one.width) for one in build_stream(recipe)(0).references]
    policy = recipe.policy
    return [PHOTO if policy.resizes_references else (policy.height, policy.width)]


def weightless_policy(recipe: Recipe) -> Any:
    """The recipe's policy without weights and adapter; on the meta device, or fake."""
    settings, kind = recipe.policy, policy_class(recipe.policy)
    dtype = dtype_of(settings.dtype, recipe.run.device)
    pipeline = weightless_pipeline(model_path(settings.model), dtype)
    if isinstance(settings, SdIpAdapter) and settings.ip_adapter is not None:
        add_ip_adapter(
            pipeline, settings.ip_adapter, settings.ip_adapter_weights, settings.image_encoder
        )
    options = settings.model_dump(exclude=ASIDE | LOADED)
    if isinstance(settings, Custom):
        options |= settings.options
    with first_use(settings.model, pipeline.components, "scheduler", (ValueError, OSError)):
        policy = kind(pipeline, dtype=dtype, **options)
    if getattr(settings, "uno_lora", None) and not getattr(settings, "merge_uno", True):
        keep_blank_uno(policy)
    return policy


def _copy_size(recipe: Recipe) -> int:
    """Over how many processes one copy of the denoiser is spread."""
    return copy_size(recipe, {"LOCAL_WORLD_SIZE": str(_of_a_machine(recipe))})


def _of_a_machine(recipe: Recipe) -> int:
    """How many processes share a machine, where machines are full."""
    return min(recipe.run.settled_processes, GPUS_OF_A_MACHINE)


def _kept(recipe: Recipe) -> int:
    """Latents that the busiest process keeps for its updates."""
    work, settings = plan_of(recipe).busiest, recipe.rollout
    if not isinstance(recipe.objective, Grpo):
        return work.images  # finished
    trained, guard = trained_steps(settings), recipe.objective.guard
    starts = work.tasks if settings.shared_noise is not False else 0
    return starts + stored_latents(work.images, trained, settings.num_steps, guard)


def _count_parameters(policy: Any) -> tuple[dict[str, int], int]:
    """Number of parameters of each part of a pipeline, and of those that are trained."""
    trained = policy.trainable_parameters()
    own = {id(one) for one in trained}
    counts = {
        name: sum(one.numel() for one in part.parameters() if id(one) not in own)
        for name, part in policy.pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
    return counts, sum(one.numel() for one in trained)


def _choices(recipe: Recipe) -> list[list[Change]]:
    """Remedies that are still open to a recipe, the cheapest first."""
    policy, run, choices = recipe.policy, recipe.run, []
    if run.sharding == "none" and isinstance(run.processes, int) and run.processes > 1:
        choices.append([remedies.SPREAD])
    if not policy.gradient_checkpointing:
        choices.append([remedies.CHECKPOINTING])
    choices.append(remedies.micro_batches(micro_batch(recipe)))
    if not policy.offload:
        choices.append([remedies.OFFLOAD])
    if policy.dtype == "float32":
        choices.append([remedies.NARROW])
    if policy.quantization is None and isinstance(recipe.adapter, Lora):
        beside = ("policy.merge_uno=false",) if getattr(policy, "uno_lora", None) else ()
        names = ("bitsandbytes-8bit", "bitsandbytes-4bit")
        choices.append([(f"policy.quantization={name}", *beside) for name in names])
    return [choice for choice in choices if choice]
