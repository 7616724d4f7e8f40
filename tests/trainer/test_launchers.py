"""What ``accelerate launch`` was asked for and a run would not do is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import runs

from likewise.api import resume, train
from likewise.records.run_directory import RunDirectory
from likewise.trainer.launchers import refuse_unsupported


def check(
    environment: Mapping[str, str],
    dtype: str = "bfloat16",
    device: str = "cuda",
    compiles: bool = False,
) -> None:
    refuse_unsupported(environment, dtype=dtype, device=device, compiles=compiles)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", "--use_fsdp (ACCELERATE_USE_FSDP) is not supported"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "--use_deepspeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "--use_megatron_lm"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "--use_parallelism_config"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "set policy.dtype=float16"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "policy.dtype, which is bfloat16; leave it out"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "set policy.compile=true"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "optimizer.updates_per_iteration"),
        ("ACCELERATE_USE_CPU", "True", "run.device, which is cuda"),
    ],
)
def test_an_option_without_effect_is_refused(variable: str, value: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check({variable: value})
    assert variable in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_DYNAMO_BACKEND": "NO"},
        {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "False"},
        {"ACCELERATE_USE_FSDP": "false", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"},
    ],
)
def test_options_that_agree_with_the_recipe_pass(environment: Mapping[str, str]) -> None:
    check(environment)
    check({**environment, "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, compiles=True)
    check({**environment, "ACCELERATE_USE_CPU": "True"}, device="cpu")


def test_a_refused_launch_writes_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="--use_fsdp"):
        train(runs.tiny_recipe(tiny_model), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    RunDirectory.create(tmp_path / "old", runs.tiny_recipe(tiny_model), {})
    with pytest.raises(ValueError, match="--use_fsdp"):
        resume(tmp_path / "old")
