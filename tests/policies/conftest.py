"""Fixtures on the tiny pipelines of `tiny`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from PIL import Image
from policies.families import Family, families
from policies.ledger import Ledger
from torch import Tensor

from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.types import Task


@pytest.fixture
def make_policy() -> Callable[..., FluxKontextPolicy]:
    """``make_policy(dtype, guidance_embeds=…, scheduler={…}, **policy_options)``."""
    return tiny.make_policy


@pytest.fixture
def task() -> Callable[..., Task]:
    return tiny.a_task


@pytest.fixture
def image() -> Callable[..., Image.Image]:
    return tiny.photo


@pytest.fixture
def velocity() -> Callable[[FluxKontextPolicy], Tensor]:
    """``velocity(policy)``: [2, L, 4C] of two fixed tasks at fixed noise."""

    def compute(policy: FluxKontextPolicy) -> Tensor:
        condition = policy.encode([tiny.a_task("a red duck"), tiny.a_task("the beach")])
        return policy.velocity(policy.initial_noise([1, 2]), 0.6, condition)

    return compute


@pytest.fixture
def train(velocity) -> Callable[..., FluxKontextPolicy]:
    """``train(policy, lr)``: two steps; the first moves only a LoRA's B, whose zeros hide A."""

    def steps(policy: FluxKontextPolicy, lr: float = 0.01) -> FluxKontextPolicy:
        optimiser = torch.optim.SGD(policy.trainable_parameters(), lr=lr)
        for _ in range(2):
            optimiser.zero_grad()
            velocity(policy).square().sum().backward()
            optimiser.step()
        return policy

    return steps


# --- every policy alike: test_family_*.py --------------------------------------------------------

LEDGER = Ledger()


@pytest.fixture(params=families(), ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    """Each policy in turn."""
    return request.param


@pytest.fixture
def ledger() -> Ledger:
    """For what a test found; becomes the table of docs/models.md."""
    return LEDGER


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Compare the table with what was found, or write it: see `ledger`."""
    problem = LEDGER.problem() if exitstatus == pytest.ExitCode.OK else None
    if problem is not None:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.pluginmanager.getplugin("terminalreporter").write_line(
            f"\n{problem}", red=True
        )
