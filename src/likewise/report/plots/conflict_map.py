"""Where two rewards pull apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from likewise.report.plots.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    RED,
    legend,
    plot,
    to_svg,
    whole_numbers,
)

REACH = 3.2  # of the map, in standard deviations; G = 12 images cannot be further than 3.18
DARKEST = 3.0  # % of images in a cell; the same on all maps, so that they can be compared
_FADE = LinearSegmentedColormap.from_list("fade", [(0, 0.447, 0.698, 0.04), (0, 0.447, 0.698, 1)])
QUADRANTS = {
    "++": ("both better", BLUE, ""),
    "+-": ("prompt better, subject worse", RED, "//"),
    "-+": ("subject better, prompt worse", PURPLE, "\\\\"),
    "--": ("both worse", GREEN, ".."),
}


def conflict_map(name: str, z_prompt: np.ndarray, z_identity: np.ndarray) -> str:
    """Where images lie in the plane of the two z [n]."""
    with plot(height=300) as (figure, axes):
        cells = axes.hexbin(
            np.clip(z_prompt, -REACH, REACH),
            np.clip(z_identity, -REACH, REACH),
            C=np.full(len(z_prompt), 100 / max(len(z_prompt), 1)),
            reduce_C_function=np.sum,
            gridsize=15,
            extent=(-REACH, REACH, -REACH, REACH),
            cmap=_FADE,
            vmin=0,
            vmax=DARKEST,
            linewidths=0.2,
        )
        axes.axhline(0, color=INK, lw=0.8)
        axes.axvline(0, color=INK, lw=0.8)
        for x, y, word in ((1, 1, "both better"), (1, -1, "conflict"), (-1, 1, "conflict")):
            axes.text(x * 2.9, y * 2.9, word, ha="right" if x > 0 else "left", va="center", size=10)
        axes.text(-2.9, -2.9, "both worse", va="center", size=10)
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
        axes.set_xlabel("prompt reward, z")
        axes.set_ylabel("identity reward, z")
        bar = figure.colorbar(cells, ax=axes, label="% of images", shrink=0.8, extend="max")
        bar.outline.set_edgecolor(INK)
        if bar.solids is not None:
            bar.solids.set_edgecolor("face")  # else viewers show gaps
        return to_svg(figure, name)


def quadrants(name: str, iterations: Sequence[int], shares: Mapping[str, Sequence[float]]) -> str:
    """Shares of the four signs of (prompt, identity) at each iteration, stacked."""
    with plot() as (figure, axes):
        below = np.zeros(len(iterations))
        for sign, (label, colour, hatch) in QUADRANTS.items():
            top = below + 100 * np.array(shares[sign])
            axes.fill_between(
                iterations, below, top, facecolor=colour, alpha=0.75, label=label, hatch=hatch,
                edgecolor=INK, linewidth=0.3,
            )  # fmt: skip
            below = top
        axes.set(xlabel="iteration", ylabel="% of images", ylim=(0, 100))
        axes.margins(x=0)
        whole_numbers(axes)
        legend(figure, axes, columns=1)
        return to_svg(figure, name)
