"""What an iteration of training really takes from the allocator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch._C._profiler import _ExtraFields_Allocation
from torch.profiler import ProfilerActivity, profile, record_function

from likewise.builders.datasets import build_stream
from likewise.builders.policies import build_policy, build_sampler
from likewise.builders.rewards import build_rewards
from likewise.config import Recipe
from likewise.records import RunDirectory
from likewise.rollout.steps import plan_steps
from likewise.trainer.assignment import assign_credit
from likewise.trainer.clock import Clock
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.session import Session

CPU = torch.device("cpu")
LOADED = "loaded"


def measured_peak(recipe: Recipe, folder: Path) -> int:
    """Most bytes of tensors at a time, once the model is loaded, to the second update.

    While it loads on a CPU, its file, which is mapped, and copies of its tensors count both.
    """
    run = RunDirectory.create(folder, recipe, {})
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        policy = build_policy(recipe, CPU, spread=True)
        with record_function(LOADED):
            pass
        parts = Parts(
            policy,
            build_sampler(recipe, policy),
            build_rewards(recipe, CPU),
            build_stream(recipe),
            [],
            {},
        )
        session = Session(recipe, run, parts, Processes(Accelerator(cpu=True)))
        for iteration in (1, 2):
            _train(session, iteration)
    return _highest(found)


def _train(session: Session, iteration: int) -> None:
    """As `trainer.loop` does, less what only records."""
    recipe, tasks = session.recipe, session.tasks(iteration)
    plan = plan_steps(recipe.rollout, recipe.seed, iteration - 1)
    drawn, scores = session.rollouts.draw(iteration, tasks, plan, Clock(CPU))
    credit = assign_credit(scores.values, scores.valid, recipe, plan, iteration)
    session.updates.learn(iteration, drawn, credit, plan)


def _highest(found: profile) -> int:
    """The largest sum of what was taken from the allocator and not yet given back.

    Threads of gloo give back later than they say, when the address may have been taken again.
    """
    assert found.profiler is not None
    live: dict[int, int] = {}
    now = most = 0
    events = found.profiler.kineto_results.experimental_event_tree()
    (loaded,) = [event.start_time_ns for event in events if event.name == LOADED]
    for time, address, size in sorted(_changes(events), key=lambda change: change[0]):
        now -= live.pop(address, 0)
        if size > 0:
            live[address] = size
            now += size
        most = max(most, now) if time >= loaded else 0
    return most


def _changes(events: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """Of memory: when, at which address, and how many bytes; fewer than 0 are given back."""
    for event in events:
        if isinstance(event.extra_fields, _ExtraFields_Allocation):
            yield event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size
        yield from _changes(event.children)
