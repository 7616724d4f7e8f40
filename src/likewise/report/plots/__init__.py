"""Plots as inline SVG, one function each: they draw what they are given and compute nothing."""

from likewise.report.plots.by_step import attribution, cosines, pressure
from likewise.report.plots.conflict_map import conflict_map, quadrants
from likewise.report.plots.pareto_front import Spot, pareto
from likewise.report.plots.training_curves import Line, curves

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
