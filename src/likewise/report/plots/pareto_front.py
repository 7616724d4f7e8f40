"""Both aims at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from likewise.report.plots.style import BLUE, GREEN, INK, RED, plot, to_svg

WIDTH, HEIGHT = 480.0, 400.0
LETTER, LINE = 5.5, 12.0  # of labels, points; bold is wider
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spot:
    """An arm, or the untrained model.

    Attributes:
        x, y: Means.
        x_bar, y_bar: Their intervals; None if unknown.
        seeds: Each seed's means.
        is_front: Whether no other arm dominates it.
        role: ``candidate``, ``baseline``, ``base`` or ``other``: decides colour and mark.
        is_named: Whether the plot shows the label.
    """

    label: str
    x: float
    y: float
    x_bar: tuple[float, float] | None
    y_bar: tuple[float, float] | None
    seeds: Sequence[tuple[float, float]]
    is_front: bool
    role: str
    is_named: bool = True


STYLES = {
    "candidate": (BLUE, "o"),
    "baseline": (RED, "s"),
    "base": (INK, "X"),
    "other": (GREEN, "D"),
}


def pareto(name: str, x_label: str, y_label: str, spots: Sequence[Spot]) -> str:
    """Arms with error bars, their seeds as dots, and the front; up and right is better."""
    with plot(WIDTH, HEIGHT) as (figure, axes):
        front = sorted((spot.x, spot.y) for spot in spots if spot.is_front)
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=INK, alpha=0.5, lw=1, ls="--")
        for spot in sorted(spots, key=lambda spot: spot.role != "other"):
            _draw(axes, spot)
        axes.set_xlabel(f"{x_label} →")
        axes.set_ylabel(f"{y_label} →")
        figure.canvas.draw()  # settles the axes, so that labels can be placed
        _label(axes, [spot for spot in spots if spot.is_named])
        return to_svg(figure, name)


def _draw(axes: Axes, spot: Spot) -> None:
    colour, mark = STYLES[spot.role]
    clear = spot.role != "other"
    if spot.seeds:
        x, y = zip(*spot.seeds, strict=True)
        axes.plot(x, y, ls="", marker="o", ms=2.6, mew=0, color=colour, alpha=0.6 if clear else 0.3)
    alpha = 0.9 if clear else 0.35
    for bar, direction in ((spot.x_bar, "x"), (spot.y_bar, "y")):
        if bar is not None and direction == "x":
            axes.plot(bar, [spot.y] * 2, color=colour, alpha=alpha, lw=1)
        elif bar is not None:
            axes.plot([spot.x] * 2, bar, color=colour, alpha=alpha, lw=1)
    axes.plot(spot.x, spot.y, ls="", marker=mark, ms=8 if clear else 5.5, mew=0, color=colour)


def _label(axes: Axes, spots: Sequence[Spot]) -> None:
    """Each label where it hides least around its mark, in reading order of the marks."""
    to_points = 72 / axes.figure.dpi
    points = [axes.transData.transform((spot.x, spot.y)) * to_points for spot in spots]
    frame = np.array(axes.bbox.extents) * to_points
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    order = sorted(range(len(spots)), key=lambda i: (spots[i].role == "other", -points[i][1]))
    for i in order:
        x, y = points[i]
        is_bold = spots[i].role != "other"
        width = LETTER * len(spots[i].label) * (1.12 if is_bold else 1) + 2
        offsets = [
            (dx, dy)
            for reach in (0, 9, 18, 27, 38, 50)
            for dx, dy in (
                *((8 + reach / 3, s) for s in (3 + reach, -11 - reach)),  # off its own bar
                *((-8 - reach / 3 - width, s) for s in (3 + reach, -11 - reach)),
                *((-width / 2, s) for s in (8 + reach, -16 - reach)),
            )
        ]
        boxes = [(x + dx, y + dy - 2, x + dx + width, y + dy - 2 + LINE) for dx, dy in offsets]
        costs = [_hidden(box, taken, frame) + 0.4 * n for n, box in enumerate(boxes)]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        dx, dy = offsets[best]
        axes.annotate(
            spots[i].label,
            (spots[i].x, spots[i].y),
            xytext=(dx, dy),
            textcoords="offset points",
            fontsize=9.5,
            fontweight="bold" if is_bold else "normal",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.35, "lw": 0.6}
            if best >= 6
            else None,
        )


def _hidden(box: Box, taken: Sequence[Box], frame: np.ndarray) -> float:
    """Area that a label would cover of others, and a high price for what leaves the frame."""
    left, bottom, right, top = box
    hidden = sum(
        max(0.0, min(right, other[2]) - max(left, other[0]))
        * max(0.0, min(top, other[3]) - max(bottom, other[1]))
        for other in taken
    )
    outside = max(0.0, frame[0] - left) + max(0.0, right - frame[2])
    outside += max(0.0, frame[1] - bottom) + max(0.0, top - frame[3])
    return hidden + 20 * outside
