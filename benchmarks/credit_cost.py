"""What SARS and TDW cost against a plain sum: iterations in alternating pairs, in one process.

    python benchmarks/credit_cost.py --pairs 21
    python benchmarks/credit_cost.py --pairs 21 rollout.tasks=8 run.threads=1     # any override

Both arms share the policy, its rewards and the tasks, and start each pair from the same weights: so
they draw the same images, and differ in nothing but credit and what is learned from it. A pair is
one iteration (draw, score, assign credit, update) of each; which comes first alternates. Ratios are
of a pair, medians over pairs; intervals are between order statistics (95 % or a little more).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator
from scipy.stats import binom

from likewise.api.training import settle
from likewise.builders.parts import build_parts
from likewise.config import load_recipe
from likewise.records import RunDirectory
from likewise.trainer.assignment import assign_credit
from likewise.trainer.clock import Clock
from likewise.trainer.processes import Processes
from likewise.trainer.session import Session

NAIVE, METHOD = "stickers-naive", "stickers"
ALONE = ["run.processes=1", "run.evaluation.every=0", "run.trackers=[]"]
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux has them


@dataclass(frozen=True)
class Cost:
    """One iteration: seconds in all and by phase, and peak bytes (None: cannot be told)."""

    seconds: float
    phases: Mapping[str, float]
    peak: int | None

    @property
    def credit(self) -> float:
        """Seconds of credit alone."""
        return self.phases["credit"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=21, help="at least 6, or there is no interval")
    parser.add_argument("overrides", nargs="*", help="of both recipes, as in rollout.tasks=8")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        naive, method = arms(Path(folder), options.overrides)
        pairs = compare(naive, method, options.pairs)
    report(pairs)


def arms(folder: Path, overrides: Sequence[str]) -> tuple[Session, Session]:
    """Two runs of the same parts: the plain sum, and SARS with TDW."""
    recipes = [settle(load_recipe(name, [*ALONE, *overrides])) for name in (NAIVE, METHOD)]
    torch.set_num_threads(int(recipes[0].run.threads))
    processes = Processes(Accelerator(cpu=recipes[0].run.device == "cpu"))
    parts = build_parts(recipes[0], processes.device)
    naive, method = (
        Session(one, RunDirectory.create(folder / one.name, one, {}), parts, processes)
        for one in recipes
    )
    return naive, method


def compare(naive: Session, method: Session, pairs: int) -> list[tuple[Cost, Cost]]:
    """Costs of (naive, method), pair by pair; the first pair, which warms up, is dropped."""
    start = [one.detach().clone() for one in naive.learner.parameters]
    found = []
    for number in range(1, pairs + 2):
        iteration = 1 + (number - 1) % naive.recipe.run.iterations
        order = (naive, method) if number % 2 else (method, naive)
        costs = {id(arm): iterate(arm, iteration, start) for arm in order}
        found.append((costs[id(naive)], costs[id(method)]))
    return found[1:]


def iterate(session: Session, iteration: int, start: Sequence[torch.Tensor]) -> Cost:
    """One iteration from the given weights, as `trainer.loop` makes it, less what only records."""
    tasks, plan = session.tasks(iteration), session.plan(iteration)
    with torch.no_grad():
        for parameter, value in zip(session.learner.parameters, start, strict=True):
            parameter.copy_(value)
    clock = Clock(session.processes.device)
    forget_peak(clock.device)
    started = time.perf_counter()
    rollout = session.rollouts.draw(iteration, tasks, plan, clock)
    assert rollout is not None  # nobody stops it
    drawn, scores = rollout
    with clock.phase("credit"):
        credit = assign_credit(scores.values, scores.valid, session.recipe, plan, iteration)
    with clock.phase("update"):
        session.updates.learn(iteration, drawn, credit, plan)
    seconds = time.perf_counter() - started
    return Cost(seconds, clock.phases, peak(clock.device))


def forget_peak(device: torch.device) -> None:
    """From here on, :func:`peak` counts anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        RESET.write_text("5")  # of resident memory: see proc_pid_clear_refs(5)


def peak(device: torch.device) -> int | None:
    """Most bytes since :func:`forget_peak`: of the GPU's allocator, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not RESET.exists():
        return None
    rows = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(rows["VmHWM"].split()[0])


def report(pairs: Sequence[tuple[Cost, Cost]]) -> None:
    """Medians over pairs, each with its interval."""
    show("time of an iteration", [method.seconds / naive.seconds for naive, method in pairs])
    peaks = [two.peak / one.peak for one, two in pairs if one.peak and two.peak]
    if peaks:
        show("peak memory of an iteration", peaks)
    else:
        print("peak memory of an iteration: not measured, as this system does not tell")
    shares = [(method.credit - naive.credit) / naive.seconds for naive, method in pairs]
    middle = median(method.credit for _, method in pairs)
    low, high = median_interval(shares)
    print(
        f"credit alone: {1e3 * middle:.2f} ms, which adds {median(shares):+.4%} to an iteration "
        f"({low:+.4%} to {high:+.4%})"
    )


def show(what: str, ratios: Sequence[float]) -> None:
    low, high = median_interval(ratios)
    print(f"{what}: {median(ratios):.4f} of naive's ({low:.4f}-{high:.4f}, {len(ratios)} pairs)")


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Order statistics that hold the median at least so often, whatever the distribution.

    The k-th smallest and largest, with k as large as P(Binomial(n, ½) < k) ≤ (1 − confidence)/2
    allows. Where there are too few values for that, the whole range, which holds it less often.
    """
    ordered = sorted(values)
    aside = max(int(binom.ppf((1 - confidence) / 2, len(ordered), 0.5)), 1)
    return ordered[aside - 1], ordered[-aside]


if __name__ == "__main__":
    main()
