"""Plots as inline SVG, one function each: they draw what they are given and compute nothing."""

from likewise.report.plots.conflict import conflict_map, quadrants
from likewise.report.plots.curves import Line, curves
from likewise.report.plots.pareto import Spot, pareto
from likewise.report.plots.steps import attribution, cosines, pressure

__all__ = [
    "Line",
    "Spot",
    "attribution",
    "conflict_map",
    "cosines",
    "curves",
    "pareto",
    "pressure",
    "quadrants",
]
