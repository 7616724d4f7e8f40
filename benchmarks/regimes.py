"""Where SARS, TDW and measured TDW pay: predicted from attribution, and gained in training.

    likewise compare stickers-regimes --out runs/stickers-regimes --only train
    python benchmarks/regimes.py runs/stickers-regimes --tasks 48 --groups 24

An arm is named REGIME.ARM. For each regime `likewise advise` measures, on the untrained model, when
rewards are decided and how they go together (kept in FOLDER/attribution), and predicts what share
of naive's images an arm saves. What it gained is the mean reward over the last third of training,
above naive's with the same seed on the same tasks, each reward in standard deviations within a
task, both added up. Writes regimes.json, and the figure regimes.svg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from likewise.analysis.advice import Advice
from likewise.analysis.intervals import Estimate, cluster_bootstrap
from likewise.api import advise
from likewise.config import Study, load_study
from likewise.config.study import unit_recipe
from likewise.records import CheckpointStore, RunDirectory
from likewise.report.plots.style import BLUE, GREEN, RED, legend, plot, to_svg

NAIVE, LAST = "naive", 1 / 3
LABELS = {"sars": "SARS", "tdw": "TDW", "measured": "measured TDW"}
LOOKS = {"sars": (GREEN, "^"), "tdw": (BLUE, "o"), "measured": (RED, "s")}
COSINE = "gradient/cosine"


@dataclass(frozen=True)
class Regime:
    """One world, as measured on the untrained model.

    Attributes:
        separation: 1 − overlap of both rewards' profiles: 0 where the same steps decide them.
        delay: Steps by which identity is decided later.
        correlation: Of both rewards inside groups.
        cosine: Mean cosine of both rewards' gradients in naive's training; None if not measured.
    """

    name: str
    separation: float
    delay: float
    correlation: float
    cosine: float | None


@dataclass(frozen=True)
class Gain:
    """What an arm was predicted to save, as a share of naive's images, and what it gained."""

    regime: str
    arm: str
    predicted: float
    gained: Estimate


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--tasks", type=int, default=48, help="of each regime's attribution")
    parser.add_argument("--resamples", type=int, default=2, help="trajectories of each task")
    parser.add_argument("--groups", type=int, default=24, help="for correlations")
    options = parser.parse_args(arguments)
    study = load_study(options.folder / "study.yaml")
    regimes, gains = [], []
    for name in dict.fromkeys(arm.rpartition(".")[0] for arm in study.arms):
        sizes = {one: getattr(options, one) for one in ("tasks", "resamples", "groups")}
        advice, stds = _measure(study, name, options.folder, sizes)
        cosine = _cosine(_runs(study, options.folder, f"{name}.{NAIVE}"))
        regimes.append(_regime(name, advice, cosine))
        gains += _gains(study, options.folder, name, predictions(advice), stds)
    _write(options.folder, regimes, gains)


def predictions(advice: Advice) -> dict[str, float]:
    """Arm → share of naive's images that it is predicted to save."""
    saved = {
        "tdw": advice.arms["TDW"].saved.mean,
        "measured": advice.arms["measured TDW"].saved.mean,
    }
    line = advice.linear.mean or 1.0
    found = {name: 0.0 if value is None else value for name, value in saved.items()}
    return {"sars": 1 - 1 / line, **found}  # what is not on the line is noise alone


def gained(
    ours: Mapping[int, pa.Table], naive: Mapping[int, pa.Table], stds: Mapping[str, float]
) -> Estimate:
    """Mean over tasks of Σ_k (reward_k − naive's)/std_k, with an interval over tasks.

    Args:
        ours, naive: Seed → reward table; only seeds, iterations and tasks of both count.
        stds: Reward → its standard deviation within a task.
    """
    values: list[float] = []
    names: list[str] = []
    for seed in sorted(ours.keys() & naive.keys()):
        one, other = (_sums(tables[seed], stds) for tables in (ours, naive))
        shared = sorted(one.keys() & other.keys())
        values += [one[task] - other[task] for task in shared]
        names += [f"{seed} {task}" for task in shared]
    return cluster_bootstrap(np.array(values), np.array(names))


def rank_correlation(gains: Sequence[Gain]) -> dict[str, float | int]:
    """Spearman's of predicted and gained, over all arms and regimes, with p by permutation."""
    pairs = [(gain.predicted, gain.gained.mean) for gain in gains if gain.gained.mean is not None]
    if len(pairs) < 3:
        return {"n": len(pairs)}
    predicted, found = np.array(pairs).T
    own = float(stats.spearmanr(predicted, found).statistic)
    rng = np.random.default_rng(0)
    drawn = [stats.spearmanr(predicted, rng.permutation(found)).statistic for _ in range(2000)]
    beyond = sum(abs(one) >= abs(own) - 1e-12 for one in drawn)
    return {"rho": own, "p": (1 + beyond) / 2001, "n": len(pairs)}


def figure(regimes: Sequence[Regime], gains: Sequence[Gain]) -> str:
    """Where each pays, and predicted against gained: SVG."""
    with plot(760, 400) as (drawing, axes):
        axes.remove()
        where, against = drawing.subplots(1, 2)
        _where(where, regimes, gains)
        _against(drawing, against, gains)
        svg = to_svg(drawing, "regimes")
    return svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _where(axes: Axes, regimes: Sequence[Regime], gains: Sequence[Gain]) -> None:
    largest = max((abs(gain.gained.mean or 0.0) for gain in gains), default=1.0) or 1.0
    for regime in regimes:
        own = [gain for gain in gains if gain.regime == regime.name]
        for number, gain in enumerate(own):
            size = abs(gain.gained.mean or 0.0) / largest
            colour, mark = LOOKS[gain.arm]
            pays = (gain.gained.mean or 0.0) > 0
            axes.plot(
                regime.separation + 0.012 * (number - 1),
                regime.correlation,
                mark,
                color=colour,
                markersize=4 + 12 * size,
                fillstyle="full" if pays else "none",
            )
        axes.annotate(
            regime.name,
            (regime.separation, regime.correlation),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set_title("filled: gained over naive; hollow: lost;\nlarger: by more", fontsize=10)
    axes.set_xlabel("rewards decided at the same steps (0) or apart (1)")
    axes.set_ylabel("correlation in groups: conflict < 0 < agreement")
    axes.margins(0.2)


def _against(drawing: Figure, axes: Axes, gains: Sequence[Gain]) -> None:
    for arm, label in LABELS.items():
        colour, mark = LOOKS[arm]
        own = [gain for gain in gains if gain.arm == arm and gain.gained.mean is not None]
        x, y = [100 * gain.predicted for gain in own], [gain.gained.mean or 0.0 for gain in own]
        low = [mean - (gain.gained.low or mean) for gain, mean in zip(own, y, strict=True)]
        high = [(gain.gained.high or mean) - mean for gain, mean in zip(own, y, strict=True)]
        axes.errorbar(x, y, [low, high], fmt=mark, color=colour, label=label, elinewidth=0.8)
    found = rank_correlation(gains)
    said = f"rank correlation {found['rho']:.2f}, p {found['p']:.3f}" if "rho" in found else ""
    axes.axhline(0, color="grey", lw=0.8)
    axes.axvline(0, color="grey", lw=0.8)
    axes.set_title(f"predicted and gained\n{said}", fontsize=10)
    axes.set_xlabel("predicted: % of naive's images saved")
    axes.set_ylabel("gained over naive, both rewards, std")
    legend(drawing, axes, 3)


def _measure(
    study: Study, regime: str, folder: Path, sizes: Mapping[str, int]
) -> tuple[Advice, dict[str, float]]:
    """Advice on the regime's untrained model, and each reward's std within a task."""
    recipe = unit_recipe(study, f"{regime}.{NAIVE}", study.seeds[0])
    file = folder / "attribution" / f"{regime}.json"
    stored: dict[str, Any] = {"attribution": file} if file.is_file() else {"out": file, **sizes}
    found = advise(recipe.policy.model, recipe=recipe, **stored)
    scorers = json.loads(file.read_text(encoding="utf-8"))["scorers"]
    return found.advice, {name: scorers[f"reward/{name}"]["std"] for name in recipe.credited}


def _regime(name: str, advice: Advice, cosine: float | None) -> Regime:
    overlap = 1.0 if advice.overlap.mean is None else advice.overlap.mean
    delay, together = advice.delay.mean or 0.0, advice.correlation.mean or 0.0
    return Regime(name, 1 - overlap, delay, together, cosine)


def _gains(
    study: Study,
    folder: Path,
    regime: str,
    predicted: Mapping[str, float],
    stds: Mapping[str, float],
) -> list[Gain]:
    naive = _tables(_runs(study, folder, f"{regime}.{NAIVE}"))
    return [
        Gain(
            regime,
            arm,
            value,
            gained(_tables(_runs(study, folder, f"{regime}.{arm}")), naive, stds),
        )
        for arm, value in predicted.items()
        if f"{regime}.{arm}" in study.arms
    ]


def _runs(study: Study, folder: Path, arm: str) -> dict[int, RunDirectory]:
    """Seed → finished run."""
    found = {}
    for seed in study.seeds:
        path = folder / "runs" / arm / f"seed-{seed}"
        if not (path / "recipe.yaml").is_file():
            continue
        run = RunDirectory.open(path)
        newest = CheckpointStore(run.checkpoints, 1).newest()
        if newest is not None and newest.iteration >= run.recipe.run.iterations:
            found[seed] = run
    return found


def _tables(runs: Mapping[int, RunDirectory]) -> dict[int, pa.Table]:
    """Seed → rewards of the last third of its iterations."""
    found = {}
    for seed, run in runs.items():
        first = round(run.recipe.run.iterations * (1 - LAST)) + 1
        table = run.read_rewards()
        found[seed] = table.filter(pc.greater_equal(table["iteration"], first))
    return found


def _sums(table: pa.Table, stds: Mapping[str, float]) -> dict[str, float]:
    """Task of an iteration → sum of its mean rewards, each over its std."""
    names = [f"reward/{name}" for name in stds]
    means = table.group_by(["iteration", "task"]).aggregate([(name, "mean") for name in names])
    found = {}
    for row in means.to_pylist():
        parts = [row[f"reward/{name}_mean"] for name in stds]
        if None not in parts:
            total = sum(part / std for part, std in zip(parts, stds.values(), strict=True))
            found[f"{row['iteration']} {row['task']}"] = total
    return found


def _cosine(runs: Mapping[int, RunDirectory]) -> float | None:
    seen = [row[COSINE] for run in runs.values() for row in run.read_metrics() if COSINE in row]
    return fmean(one for one in seen if one is not None) if any(seen) else None


def _write(folder: Path, regimes: Sequence[Regime], gains: Sequence[Gain]) -> None:
    record = {
        "regimes": [asdict(one) for one in regimes],
        "gains": [asdict(one) for one in gains],
        "rank_correlation": {
            "all": rank_correlation(gains),
            **{arm: rank_correlation([one for one in gains if one.arm == arm]) for arm in LABELS},
        },
    }
    text = json.dumps(record, indent=1) + "\n"
    (folder / "regimes.json").write_text(text, encoding="utf-8")
    (folder / "regimes.svg").write_text(figure(regimes, gains), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
