"""What `likewise compare` does: run units, compute results, and print both."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from likewise.cli.messages import FAILED, fail
from likewise.cli.unit_progress import UnitProgress, estimate, minutes
from likewise.config import Study, load_study
from likewise.config.problems import nearest
from likewise.records import RunDirectoryError
from likewise.records.atomic import write_atomically
from likewise.records.locks import exclusive
from likewise.study.executors import build_executor
from likewise.study.existing import check_folder
from likewise.study.journal import Journal
from likewise.study.runner import Runner
from likewise.study.unit_jobs import Executor, Resources
from likewise.study.units import Plan, State, Unit
from likewise.terminal import SafeConsole, say, shown
from likewise.trainer.interrupts import Interrupts


@dataclass(frozen=True)
class Choice:
    """Where units run, by the name of an executor, and what each is given there."""

    executor: str
    resources: Resources

    def build(self, plan: Plan) -> Executor:
        return build_executor(self.executor, plan, self.resources)


@dataclass(frozen=True)
class Wanted:
    """Which units to do of those that are not finished.

    Attributes:
        only: Units of one kind alone; ``results``: none, and the results anew.
        arms, seeds: Units of these alone, the untrained model apart; empty: all.
    """

    only: str | None = None
    arms: Collection[str] = ()
    seeds: Collection[int] = ()

    def check(self, study: Study) -> None:
        """Raises ValueError for an arm or seed that the study does not have."""
        for arm in self.arms:
            if arm not in study.arms:
                raise ValueError(f"--arm {arm}: not in {study.name}; {nearest(arm, study.arms)}")
        for seed in self.seeds:
            if seed not in study.seeds:
                known = ", ".join(map(str, study.seeds))
                raise ValueError(f"--seed {seed}: not in {study.name}, whose seeds are {known}")

    def __contains__(self, unit: Unit) -> bool:
        return (
            (self.only is None or unit.kind == self.only)
            and (not self.arms or unit.arm in self.arms)
            and (not self.seeds or unit.seed in self.seeds)
        )


def compare(study: str, out: Path | None, wanted: Wanted, where: Choice, dry_run: bool) -> None:
    """Do what is left of a study and write its results, or with `dry_run` say what is left.

    Args:
        out: Its folder; default ``runs/<name>``.

    Raises:
        RecipeError, RunDirectoryError, ExecutorError: the study, its folder or where it is to run
            does not fit.
        ValueError: the study has no such arm or seed.
        typer.Exit: units failed, or a signal ended it.
    """
    plan, failed = _plan(study, out), 0
    wanted.check(plan.study)
    if wanted.only == "results":
        _require_folder(plan)
        check_folder(plan)
    elif dry_run:
        check_folder(plan)
        _print_plan(plan, wanted, where.build(plan))
        return
    else:
        failed = _work(plan, wanted, where)
    _write_results(plan)
    if failed:
        fail(f"units that failed: {failed}; the same command tries them again", FAILED)


def _plan(study: str, out: Path | None) -> Plan:
    found = load_study(study)
    return Plan(found, out or Path("runs") / found.name)


def _require_folder(plan: Plan) -> None:
    if not plan.folder.is_dir():
        raise RunDirectoryError(f"there is no folder {plan.folder} yet: leave --only results out")


def _work(plan: Plan, wanted: Wanted, where: Choice) -> int:
    """Do the units that are not finished; how many failed.

    Raises:
        typer.Exit: a signal ended it.
        RunDirectoryError: another process works on this study, or its folder holds another one.
        ExecutorError: units cannot run where they should.
    """

    def busy(process: str) -> RunDirectoryError:
        return RunDirectoryError(f"{plan.folder} is in use: process {process} works on this study")

    executor = where.build(plan)  # first, as Ray has handlers of signals of its own
    plan.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(plan.folder / ".lock", busy), Interrupts() as interrupts:
        check_folder(plan)
        states = _states(plan)
        todo = _todo(states, wanted)
        plan.prepare(todo)
        finished = [unit for unit, state in states.items() if state == "finished"]
        with UnitProgress(plan, len(finished), todo, len(executor.workers)) as progress:
            runner = Runner(plan, executor, progress.started, progress.ended)
            failed = runner.run(todo, finished, lambda: interrupts.received > 0)
    if interrupts.received:
        say(f"stopped; go on with the same command: all is in {plan.folder}")
        raise typer.Exit(128 + interrupts.received)
    return failed


def _states(plan: Plan) -> dict[Unit, State]:
    return {unit: plan.state(unit) for unit in plan.units}


def _todo(states: Mapping[Unit, State], wanted: Wanted) -> list[Unit]:
    return [unit for unit, state in states.items() if state != "finished" and unit in wanted]


def _write_results(plan: Plan) -> None:
    """results.json and results.md; and the evaluators' part of them on the screen."""
    from likewise.study.results import compute_results
    from likewise.study.tables import results_markdown

    results = compute_results(plan)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(plan.folder / "results.json", text + "\n")
    write_atomically(plan.folder / "results.md", results_markdown(results))
    console = SafeConsole(soft_wrap=True, highlight=False)
    if results["arms"]:
        console.print(_summary(results))
    if results["missing"]:
        console.print(f"{len(results['missing'])} of {len(plan.units)} units are missing")
    console.print(f"all tables: {shown(str(plan.folder / 'results.md'))}")


def _summary(results: dict[str, Any]) -> Table:
    """Means of both aims, and differences to the baseline with p over subjects."""
    from likewise.study.tables import notes

    title = f"{results['study']}: differences to {results['baseline']}, paired"
    table = Table(title=shown(title))
    table.add_column("arm")
    for name in results["aims"]:
        table.add_column(shown(name), justify="right")
        table.add_column("difference", justify="right")
        table.add_column("p", justify="right")
    for arm in results["arms"].values():
        cells = []
        for name in results["aims"]:
            mean = arm["metrics"].get(name, {}).get("mean")
            versus = arm["versus"].get(name)
            cells.append("–" if mean is None else f"{mean:.3f}")
            cells.append("" if versus is None else f"{versus['mean']:+.3f}")
            cells.append("" if versus is None else f"{versus['p_subjects']:.3f}")
        table.add_row(shown(arm["label"]), *cells)
    table.caption = shown(notes(results)) or None
    return table


def _print_plan(plan: Plan, wanted: Wanted, executor: Executor) -> None:
    states = _states(plan)
    todo = _todo(states, wanted)
    journal = Journal(plan)
    seconds = {kind: journal.typical_seconds(kind) for kind in ("train", "evaluate")}
    table = Table(box=None, pad_edge=False)
    for column in ("unit", "state", "about"):
        table.add_column(column)
    for unit in plan.units:
        about = minutes(seconds[unit.kind]) if unit in todo else ""
        table.add_row(shown(unit), states[unit], about)
    workers = executor.workers
    console = SafeConsole(highlight=False)
    console.print(table)
    left = minutes(estimate(todo, seconds, len(workers)))
    where = ", ".join(worker.name for worker in workers)
    console.print(f"{len(todo)} of {len(plan.units)} units to do, in {left}, on {where}")
