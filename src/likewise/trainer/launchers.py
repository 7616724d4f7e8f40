"""What another launcher was asked for that a run would silently leave out."""

from __future__ import annotations

from collections.abc import Mapping

# What `accelerate launch` sets for an option.
SHARDING = {
    "ACCELERATE_USE_FSDP": "--use_fsdp",
    "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config",
}
PRECISION, COMPILER = "ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND"
ACCUMULATION, CPU = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_USE_CPU"
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def refuse_unsupported(
    environment: Mapping[str, str], *, dtype: str, device: str, compiles: bool
) -> None:
    """Check that a recipe agrees with the options of ``accelerate launch``.

    Args:
        environment: Of this process.
        dtype, device, compiles: The recipe's `policy.dtype`, `run.device` and `policy.compile`,
            with `auto` replaced.

    Raises:
        ValueError: an option is not supported, or asks for something else than the recipe.
    """
    for variable, option in SHARDING.items():
        if _is_true(environment.get(variable, "")):
            raise ValueError(
                f"{option} ({variable}) is not supported: launch without it. run.sharding=fsdp2 "
                "spreads the model over processes; policy.gradient_checkpointing, policy.offload "
                "and policy.quantization save memory too"
            )
    precision = environment.get(PRECISION, "no").lower()
    if precision not in ("", "no", "none") and DTYPES.get(precision) != dtype:
        wanted = DTYPES.get(precision)
        remedy = f"set policy.dtype={wanted} or leave it out" if wanted else "leave it out"
        raise ValueError(
            f"--mixed_precision {precision} ({PRECISION}) has no effect: a run computes in "
            f"policy.dtype, which is {dtype}; {remedy}"
        )
    backend = environment.get(COMPILER, "no").lower()
    if backend not in ("", "no") and not compiles:
        raise ValueError(
            f"--dynamo_backend {backend} ({COMPILER}) has no effect: set policy.compile=true"
        )
    steps = environment.get(ACCUMULATION, "1")
    if steps not in ("", "1"):
        raise ValueError(
            f"--gradient_accumulation_steps {steps} ({ACCUMULATION}) has no effect: "
            "rollout.micro_batch and optimizer.updates_per_iteration say how gradients add up"
        )
    if _is_true(environment.get(CPU, "")) and device != "cpu":
        raise ValueError(f"--cpu ({CPU}) disagrees with run.device, which is {device}: set it too")


def _is_true(value: str) -> bool:
    return value.lower() in ("1", "true", "yes", "on", "y", "t")
