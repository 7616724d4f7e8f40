"""What happens at each step of the sampling schedule, from noise to image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from likewise.analysis.credit_shares import Pressure
from likewise.report.plots.style import (
    BLUE,
    GREEN,
    HEIGHT,
    INK,
    LINES,
    PURPLE,
    RED,
    SERIES,
    legend,
    plot,
    to_svg,
    whole_numbers,
)


def pressure(name: str, steps: Mapping[int, Pressure], rewards: Sequence[str]) -> str:
    """Mean |w·z| of each reward, and the mean size of the advantage, at each trained step."""
    with plot() as (figure, axes):
        positions, width = np.arange(len(steps)), 0.8 / max(len(rewards), 1)
        for number, reward in enumerate(rewards):
            sizes = [(one.rewards or {}).get(reward, 0.0) for one in steps.values()]
            axes.bar(
                positions + (number + 0.5) * width - 0.4,
                sizes,
                width,
                label=f"{reward} reward, |w·z|",
                color=(BLUE, RED, PURPLE)[number % 3],
                hatch=("", "//", "..")[number % 3],
                edgecolor=INK,
                linewidth=0.4,
            )
        total = [one.advantage for one in steps.values()]
        axes.plot(positions, total, color=INK, marker="D", ms=4, lw=1, label="advantage |A|, whole")
        axes.set_xticks(positions, [str(step) for step in steps])
        axes.set_ylabel("mean size, in standard deviations")
        _from_noise_to_image(axes)
        legend(figure, axes, columns=1)
        return to_svg(figure, name)


def attribution(
    name: str, scorers: Mapping[str, Mapping[str, Any]], weights: Mapping[int, float], label: str
) -> str:
    """Measured shares per step of some scorers beside the weights of their side.

    Args:
        scorers: Title → ``share``, ``low``, ``high`` [T].
        weights: Step → weight, in a run of the method.
        label: Of the weights.
    """
    with plot(height=HEIGHT + 10) as (figure, axes):
        for number, (title, found) in enumerate(scorers.items()):
            colour = (SERIES[0], SERIES[1], GREEN, PURPLE)[number % 4]
            steps = np.arange(len(found["share"])) + 0.06 * (number - (len(scorers) - 1) / 2)
            share = np.array(found["share"], dtype=float)
            low, high = (np.array(found[side], dtype=float) for side in ("low", "high"))
            axes.vlines(steps, low, high, color=colour, lw=1)
            axes.plot(
                steps, share, color=colour, marker="o", ms=4, ls=LINES[number % 4], label=title
            )
        if weights:
            positions, sizes = zip(*sorted(weights.items()), strict=True)
            axes.plot(
                positions, sizes, color=INK, marker="s", ms=5, mfc="none", lw=1.4, label=label
            )
        axes.set_ylabel("share of variance; weight")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        whole_numbers(axes)
        _from_noise_to_image(axes)
        legend(figure, axes, columns=1)
        return to_svg(figure, name)


def cosines(name: str, runs: Mapping[str, Mapping[int, float]]) -> str:
    """Mean cosine of two gradients at each step, a line for each run: label → step → cosine."""
    with plot() as (figure, axes):
        axes.axhline(0, color=INK, lw=0.7)
        for number, (label, found) in enumerate(runs.items()):
            style = LINES[(number + number // len(SERIES)) % len(LINES)]
            colour = SERIES[number % len(SERIES)]
            steps, values = list(found), list(found.values())
            axes.plot(steps, values, color=colour, ls=style, marker="o", ms=3.5, label=label)
        axes.set_ylabel("cosine of the two gradients")
        whole_numbers(axes)
        _from_noise_to_image(axes)
        legend(figure, axes)
        return to_svg(figure, name)


def _from_noise_to_image(axes: Axes) -> None:
    axes.set_xlabel("sampling step: from noise (left) to image (right)")
