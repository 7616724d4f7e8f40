"""Executors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from likewise.study.process import LocalExecutor
from likewise.study.unit_jobs import Executor, ExecutorError, Resources
from likewise.study.units import BASE_UNIT, Plan
from likewise.study.workers import find_workers

Builder: TypeAlias = Callable[[Plan, Resources], Executor]


def build_executor(name: str, plan: Plan, resources: Resources) -> Executor:
    """The executor of that name in `EXECUTORS`.

    Raises:
        ExecutorError: it cannot be used here, or with these resources.
    """
    return EXECUTORS[name](plan, resources)


def _local(plan: Plan, resources: Resources) -> Executor:
    if resources != Resources():
        raise ExecutorError("--cpus and --gpus are for clusters: they need --executor ray or slurm")
    device = plan.recipe(BASE_UNIT).run.device
    return LocalExecutor(find_workers(plan.study.workers, device))


def _ray(plan: Plan, resources: Resources) -> Executor:
    from likewise.study.ray_tasks import RayExecutor

    return RayExecutor.connect(plan, resources)


def _slurm(plan: Plan, resources: Resources) -> Executor:
    from likewise.study.slurm_steps import SlurmExecutor

    return SlurmExecutor.find(plan, resources)


EXECUTORS: dict[str, Builder] = {"local": _local, "ray": _ray, "slurm": _slurm}
