"""A trained adapter leaves for other programs, comes back, and draws the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from policies import suite
from policies.families import Family
from policies.ledger import Ledger
from torch import Tensor

from likewise.builders.policies import FORMATS, Facts, export_adapter


@pytest.mark.parametrize("file_format", FORMATS)
def test_export_round_trip(
    family: Family, ledger: Ledger, tmp_path: Path, file_format: str
) -> None:
    """Where stock diffusers reads the file, it does so in a pipeline that never saw the run."""
    tasks, file = suite.mixed_tasks(family)[:2], tmp_path / "lora.safetensors"
    trained = suite.adapted(family.policy())
    trained.save_adapter(tmp_path / "adapter")
    policy = family.policy()
    policy.load_adapter(tmp_path / "adapter")

    def velocity() -> Tensor:
        return suite.velocity(policy, tasks)

    facts = Facts("tiny", family.kind, "tiny", "iteration-000001", 16, 24)
    found = export_adapter(policy, tmp_path / "adapter", file_format, file, facts, velocity)
    apart = max(found.weights, found.velocity)
    if found.reader == "diffusers":
        stock = family.policy()
        with torch.no_grad():
            bare = suite.velocity(stock, tasks)
            stock.pipeline.load_lora_weights(file)
            wanted = suite.velocity(trained, tasks)
            apart = max(apart, suite.away(suite.velocity(stock, tasks), wanted))
        assert suite.away(bare, wanted) > 0.01
    assert apart <= 1e-5
    ledger.record(family.name, file_format, apart)
