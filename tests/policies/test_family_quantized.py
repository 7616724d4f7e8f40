"""A frozen base in 8 or 4 bits draws nearly the same, and its LoRA learns alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from policies import suite
from policies.families import Family
from policies.ledger import Ledger

from likewise import load_recipe
from likewise.builders.policies import build_policy
from likewise.policies.common.pipeline_loading import QUANTIZATIONS
from likewise.policies.common.pipeline_policy import PipelinePolicy

SMALL = ["policy.dtype=float32", "policy.gradient_checkpointing=false"]
SMALL += [f"adapter.rank={suite.RANK}", f"adapter.alpha={suite.ALPHA}"]
BESIDE = {"flux-uno": ["policy.merge_uno=false"]}  # nothing can be merged into quantised weights
FAR = 0.15  # relative to float32


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_quantised_base(family: Family, ledger: Ledger, tmp_path: Path, name: str) -> None:
    pytest.importorskip(QUANTIZATIONS[name][1])
    overrides = [*family.save(tmp_path), *SMALL, *BESIDE.get(family.kind, [])]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def policy(*more: str) -> PipelinePolicy:
        built = build_policy(load_recipe(family.recipe, [*overrides, *more]), device)
        assert isinstance(built, PipelinePolicy)
        return built

    quantised = f"policy.quantization={name}"
    if family.kind == "sd-ip-adapter":
        with pytest.raises(ValueError, match=r"quanti|GPU"):
            policy(quantised)
        ledger.record(family.name, name, "refused")
        return
    needs_gpu = name.startswith("bitsandbytes")  # diffusers' quantizer insists
    if needs_gpu and device.type == "cpu":
        with pytest.raises(ValueError, match="needs a GPU"):
            policy(quantised)
        ledger.record(family.name, name, "GPU only")
        return
    # In bfloat16, as recipes have it: torchao's int8 computes in nothing else without complaint.
    tasks, found = suite.mixed_tasks(family), policy(quantised, "policy.dtype=bfloat16")
    with torch.no_grad():
        apart = suite.away(suite.velocity(found, tasks), suite.velocity(policy(), tasks))
    assert 0 < apart < FAR
    assert suite.check_step(found, tasks) == 0.0
    ledger.record(family.name, name, "GPU only" if needs_gpu else apart)
