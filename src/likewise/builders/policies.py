"""Generators, with what is trained of them and how they draw."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch

from likewise.builders.model_names import model_path, require_model
from likewise.config.adapters import Full, Lora
from likewise.config.policy_sections import Custom, PolicySection
from likewise.config.recipe import Recipe
from likewise.devices import dtype_of
from likewise.imports import load_target
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.flux.uno_lora import blank_updates, keep
from likewise.policies.flux2_klein import Flux2KleinPolicy
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.policies.flux_uno import FluxUnoPolicy
from likewise.policies.formats.exporting import export_adapter as export_adapter
from likewise.policies.formats.headers import Facts as Facts
from likewise.policies.formats.lora_files import FORMATS as FORMATS
from likewise.policies.formats.starting import start_from
from likewise.policies.qwen_image_edit import QwenImageEditPolicy
from likewise.policies.sd_ip_adapter import SdIpAdapterPolicy
from likewise.protocols import Policy
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RECIPE, RunDirectory
from likewise.rollout.sampler import Sampler
from likewise.seeding import derive_seed
from likewise.sharding.mesh import make_mesh, shards_of_a_copy
from likewise.trainer.state import adapter_folder

# Policies by `kind`. A new one is a file in policies/ and a line here.
POLICIES: dict[str, type[PipelinePolicy]] = {
    "flux-kontext": FluxKontextPolicy,
    "sd-ip-adapter": SdIpAdapterPolicy,
    "flux-uno": FluxUnoPolicy,
    "flux2-klein": Flux2KleinPolicy,
    "qwen-image-edit": QwenImageEditPolicy,
}


def set_strength(policy: Policy, factor: float, second: float = 0.0) -> None:
    """Scale what the adapter of a policy changes; 1 as trained.

    Args:
        second: The same for the adapter of `add_second`.

    Raises:
        ValueError: it is a custom policy, which has no strength, and `factor` is not 1.
    """
    if isinstance(policy, PipelinePolicy):
        policy.set_strength(factor, second)
    elif factor != 1:
        raise ValueError("a custom policy has no strength to be set")


def add_second(policy: Policy, folder: Path) -> None:
    """Put another LoRA beside a policy's own; see `TrainablePolicy.add_second`.

    Raises:
        ValueError: either is not a plain LoRA, or it is a custom policy.
    """
    if not isinstance(policy, PipelinePolicy):
        raise ValueError("adapters of a custom policy cannot be interpolated")
    policy.add_second(folder)


def model_bytes(policy: Policy) -> int | None:
    """Of all weights of its pipeline, adapters included; None where that is not known."""
    if not isinstance(policy, PipelinePolicy):
        return None
    modules = [part for part in policy.pipeline.components.values() if hasattr(part, "parameters")]
    return sum(one.nbytes for module in modules for one in module.parameters())


def build_policy(
    recipe: Recipe, device: torch.device, trainable: bool = True, spread: bool = False
) -> Policy:
    """The recipe's generator; if `trainable` with a fresh adapter, or the one to start from.

    Args:
        spread: Over the processes of a run that is being trained, as `run.sharding` says; a
            collective call. Whoever only draws has all of it.
    """
    policy = _policy(recipe.policy, device)
    if trainable:
        size = copy_size(recipe) if spread else 1
        add_adapter(recipe, policy, wait=size > 1)
        _start_adapter(recipe.adapter, policy)
        if size > 1:
            mesh = make_mesh(device.type, recipe.run.settled_processes, size)
            policy.shard(mesh, timedelta(seconds=recipe.run.timeout))
    return policy


def copy_size(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> int:
    """Over how many processes one copy of the denoiser is spread; 1: every process has all of it.

    Args:
        environment: Of a process of the run, see `sharding.mesh`.

    Raises:
        ValueError: copies do not fit the number of processes, or that number is still ``auto``.
    """
    run = recipe.run
    if run.sharding == "none":  # whatever the number of processes, which may still be open
        return 1
    return shards_of_a_copy(run.sharding, run.settled_processes, run.shard_size, environment)


def add_adapter(recipe: Recipe, policy: PipelinePolicy, wait: bool = False) -> None:
    """Make trainable what the recipe says: a fresh LoRA, or all.

    Args:
        wait: With all, until the policy is spread over processes.
    """
    adapter = recipe.adapter
    if isinstance(adapter, Lora):
        seed = derive_seed("adapter", recipe.seed)
        policy.add_lora(adapter.rank, adapter.alpha, adapter.targets, seed)
    else:
        policy.train_all(keep_reference=recipe.objective.needs_reference, wait=wait)


def keep_blank_uno(policy: PipelinePolicy) -> None:
    """Beside the weights of a policy that is only planned, keep what UNO's LoRA takes."""
    keep(policy.denoiser, blank_updates(policy.denoiser), policy.dtype)


def long_prompts(policy: Policy, prompts: Sequence[str]) -> list[str]:
    """A message about prompts that are cut, if there are any; see `PipelinePolicy.cut_prompts`."""
    limit = policy.text_limit() if isinstance(policy, PipelinePolicy) else None
    if limit is None:
        return []
    cut = policy.cut_prompts(prompts)  # type: ignore[attr-defined]
    if not cut:
        return []
    return [
        f"{len(cut):,} of {len(prompts):,} prompts are longer than the {limit[1]} tokens that the "
        f"text encoder reads: the rest has no effect, as in {cut[0]!r:.60}"
    ]


def _start_adapter(adapter: Lora | Full, policy: PipelinePolicy) -> None:
    """Raises ValueError where the adapter to start from is missing or does not fit."""
    if not isinstance(adapter, Lora) or adapter.start is None:
        return
    try:
        start_from(policy, start_path(adapter.start), adapter.reference == "start")
    except (OSError, ValueError) as error:
        raise ValueError(f"adapter.start: {error}") from error


def start_path(start: str) -> Path:
    """The file or folder of an adapter: of a run its newest intact checkpoint, else as it is named.

    Raises:
        ValueError: a run has no intact checkpoint yet.
    """
    path = Path(start).expanduser()
    if (path / RECIPE).is_file():
        newest = CheckpointStore(RunDirectory.open(path).checkpoints, 1).newest()
        if newest is None:
            raise ValueError(f"the run {path} has no intact checkpoint yet")
        path = newest.folder
    inner = adapter_folder(path)
    return inner if inner.is_dir() else path


def policy_class(settings: PolicySection) -> type[PipelinePolicy]:
    """The class that a recipe's policy section names.

    Raises:
        ValueError: a custom policy names a class that does not exist.
    """
    if not isinstance(settings, Custom):
        return POLICIES[settings.kind]  # type: ignore[attr-defined]
    try:
        found = load_target(settings.target)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"policy.target: {error}") from error
    if not (isinstance(found, type) and issubclass(found, PipelinePolicy)):
        raise ValueError(f"policy.target: {settings.target} is not a subclass of PipelinePolicy")
    return found


def build_sampler(recipe: Recipe, policy: Policy) -> Sampler:
    """The recipe's schedule and transition, for this policy."""
    settings = recipe.rollout
    sigmas = policy.sigmas(settings.num_steps, settings.shift)
    return Sampler(sigmas, settings.transition, settings.noise_level, policy.parameterization)


def _policy(settings: PolicySection, device: torch.device) -> PipelinePolicy:
    apart = {"kind", "model", "dtype", "target", "options"}
    options = settings.model_dump(exclude=apart)
    if isinstance(settings, Custom):
        options |= settings.options
    chosen = policy_class(settings)
    if not isinstance(settings, Custom):  # a custom policy may name its models as it likes
        require_model(settings.model, "policy.model")
    try:
        return chosen.from_pretrained(
            model_path(settings.model),
            dtype=dtype_of(settings.dtype, device.type),
            device=device,
            **options,
        )
    except OSError as error:
        raise ValueError(f"policy.model: cannot load {settings.model!r}: {error}") from error
