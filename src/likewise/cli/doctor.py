"""`likewise doctor`: does everything that training needs work on this machine?"""

from __future__ import annotations

import typer
from rich.table import Table

from likewise.cli.messages import FAILED
from likewise.terminal import SafeConsole, shown

STYLES = {"ok": "[green]OK[/]", "warning": "[yellow]warning[/]", "problem": "[bold red]problem[/]"}


def doctor() -> None:
    """Check this machine: libraries, cores, memory, shipped models. Exit code 1 on a problem."""
    from likewise.cli import doctor_checks

    console = SafeConsole(highlight=False)
    with console.status("checking this machine…"):
        findings = list(doctor_checks.all_findings())
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        text = shown(finding.text)
        if finding.advice:
            text += f"\n→ {shown(finding.advice)}"
        table.add_row(finding.name, STYLES[finding.status], text)
    console.print(table)
    problems = sum(finding.status == "problem" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    console.print(f"\n{problems} problem(s), {warnings} warning(s)")
    if problems:
        raise typer.Exit(FAILED)
