"""A metric over training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likewise.analysis.curves import Curve
from likewise.report.plots.style import INK, LINES, SERIES, legend, plot, to_svg, whole_numbers


@dataclass(frozen=True)
class Line:
    """One arm; if `faint`, a thin line in the background."""

    label: str
    curve: Curve
    faint: bool = False


def curves(name: str, label: str, lines: Sequence[Line]) -> str:
    """Means over seeds with their bands; `label` names the vertical axis."""
    with plot() as (figure, axes):
        clear = [line for line in lines if not line.faint]
        for number, line in enumerate(clear):
            colour = SERIES[number % len(SERIES)]
            style = LINES[(number + number // len(SERIES)) % len(LINES)]
            x, few = line.curve.iterations, len(line.curve.iterations) <= 12
            low, high = (np.array(band, dtype=float) for band in (line.curve.low, line.curve.high))
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            mark = "o" if few else ""
            axes.plot(
                x, line.curve.mean, color=colour, ls=style, marker=mark, ms=3.5, label=line.label
            )
        for number, line in enumerate(line for line in lines if line.faint):
            axes.plot(
                line.curve.iterations, line.curve.mean, color=INK, alpha=0.3, lw=0.7, zorder=1,
                label="" if number else "other arms",
            )  # fmt: skip
        axes.set_xlabel("iteration")
        axes.set_ylabel(label)
        whole_numbers(axes)
        legend(figure, axes)
        return to_svg(figure, name)
