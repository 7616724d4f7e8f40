"""From sections to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from likewise.records.atomic import write_atomically
from likewise.report.document import Section
from likewise.report.drawn_samples import References
from likewise.report.reading import StudyFolder, read_paths
from likewise.report.run_page import run_page
from likewise.report.study_page import study_page
from likewise.report.templating import environment, read_template

PACKAGE = "likewise.report"


def write_report(paths: Sequence[Path], out: Path, references: References) -> int:
    """Write a report of one study or of runs, and return its size in bytes.

    Equal folders give equal bytes.

    Args:
        paths: One study folder, or run directories.
        out: HTML file; its folder is made.
        references: Benchmark → task → the image that conditioned it.

    Raises:
        ValueError: a path is neither study nor run, or a file there is damaged.
        OSError: `out` cannot be written.
    """
    found = read_paths(paths)
    if isinstance(found, StudyFolder):
        title, sections = found.study.name, study_page(found, references)
    else:
        title, sections = ", ".join(arm.label for arm in found), run_page(found, references)
    page = render(title, sections).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page)
    return len(page)


def render(title: str, sections: Sequence[Section]) -> str:
    """The page; all text is escaped, plots are taken as they are."""
    return (
        environment(PACKAGE)
        .get_template("report.html.j2")
        .render(
            title=title,
            sections=sections,
            style=Markup(read_template(PACKAGE, "style.css")),
            script=Markup(read_template(PACKAGE, "script.js")),
        )
    )
