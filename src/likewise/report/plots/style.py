"""How plots look, and how a figure becomes SVG that sits in a page, light or dark.

Text and axes are drawn in `INK`, a colour that nothing else has, which then becomes the page's own
colour of text. The colours of series are Okabe and Ito's, those with contrast on white and black.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#010203"
BLUE, RED, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SERIES = (BLUE, RED, GREEN, PURPLE)
LINES = ("-", "--", ":", "-.")  # beside colours, for those who do not see them

WIDTH, HEIGHT = 370.0, 270.0  # points = pixels of a phone
_SETTINGS: Any = {  # matplotlib types every key
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a name is a $
    "svg.hashsalt": "likewise",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.8,
    **dict.fromkeys(
        ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK
    ),
}


@contextmanager
def plot(width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Figure, Axes]]:
    """A figure of that many points with one pair of axes, transparent and with a faint grid."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        axes.grid(color=INK, alpha=0.13, linewidth=0.6)
        axes.set_axisbelow(True)
        yield figure, axes


def whole_numbers(axes: Axes) -> None:
    """Along the horizontal axis."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Above the axes, so that it hides nothing."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def to_svg(figure: Figure, name: str) -> str:
    """The `<svg>` element; `name` makes its ids differ from those of other plots on the page."""
    with mpl.rc_context(_SETTINGS):
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), name)


def _inline(text: str, name: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=").replace(INK, "currentColor")
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\sid="([^"]*)"', rename, text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", text)
    text = re.sub(r'<svg height="[^"]*"([^>]*?)width="[^"]*"', r"<svg\1", text)
    return re.sub(r"\n\s*", "\n", text).strip()
