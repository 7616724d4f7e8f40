"""`likewise report` on the smallest real run."""

from __future__ import annotations

from pathlib import Path

from running import run, said


def test_a_run_is_reported(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.html"
    result = run("report", finished_run, "--out", out)
    assert result.exit_code == 0, result.output
    assert "report.html" in said(result) and "MB" in said(result)
    assert out.read_text().startswith("<!doctype html>")


def test_wrong_paths_are_one_message(finished_run: Path, tmp_path: Path) -> None:
    result = run("report", tmp_path / "nowhere")
    assert result.exit_code == 2 and "nowhere is not a folder" in said(result)
    result = run("report", finished_run, "--out", tmp_path)
    assert result.exit_code == 2 and "is a folder: name a file in it" in said(result)
