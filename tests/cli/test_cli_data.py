"""`likewise data check`, and training on custom data, from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import process_time

import photosets
import pytest
from running import TINY, run, said

from likewise.api.data_checks import check_data
from likewise.builders.datasets import build_stream, check_source, open_source
from likewise.config.data import KINDS
from likewise.config.loading import load_recipe
from likewise.records.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
MANY = 100_000


@pytest.mark.parametrize("kind", ["jsonl", "folder", "syncd", "subjects200k"])
def test_good_data_pass(kind: str, tmp_path: Path) -> None:
    path = getattr(photosets, kind)(tmp_path)
    result = run("data", "check", path)
    assert result.exit_code == 0, result.output
    assert f"({kind})" in said(result) and " 0 bad (images: headers read)" in said(result)


def test_bad_rows_are_listed_with_counts_and_examples(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=12, subjects=6)
    (tmp_path / "photos" / "2-1.png").unlink()
    rows = photosets.lines_of(file)
    rows[0]["prompt"] = ""
    photosets.write_lines(file, [*rows, "[bold]"])
    result = run("data", "check", file, "--examples", 1, "--decode")
    assert result.exit_code == 1
    assert said(result).startswith(
        "2 missing image tasks.jsonl, line 3: no file photos/2-1.png "
        "1 empty prompt tasks.jsonl, line 1: say what to draw "
        "1 bad JSON tasks.jsonl, line 13: "
    )
    assert said(result).endswith("tasks.jsonl (jsonl): 13 rows, 4 bad (images: decoded)")


def test_what_is_left_out_on_purpose_is_said(tmp_path: Path) -> None:
    result = run("data", "check", photosets.subjects200k(tmp_path, ratings=[3, 5, 1]))
    assert result.exit_code == 0
    assert "2 pairs are left out: rated below 5, or not described" in said(result)


def test_what_is_no_data_set_is_a_readable_error(tmp_path: Path) -> None:
    for words, message in (
        ([tmp_path / "no"], "there is nothing at"),
        ([tmp_path], "say which it is, with --kind"),
        ([tmp_path, "--kind", "jsonls"], "'jsonls' is not one of"),
    ):
        result = run("data", "check", *words)
        assert result.exit_code == 2 and message in said(result)
    with pytest.raises(ValueError, match="no kind of data 'jsonls' to check; did you mean 'jsonl'"):
        check_data(tmp_path, "jsonls")


def test_training_refuses_bad_data_or_logs_what_it_skips(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=8, subjects=4)
    rows = photosets.lines_of(file)
    rows[1]["prompt"] = ""
    photosets.write_lines(file, rows)
    (tmp_path / "photos" / "2-0.png").write_bytes(b"no image")
    (tmp_path / "photos" / "3-0.png").write_bytes(b"no image")
    words = [*TINY, "~data", "data.kind=jsonl", f"data.path={file}", "data.workers=1"]
    words += ["data.held_out=null", "rollout.tasks=3", "run.iterations=2"]
    words += ["rewards.identity.segment=false"]
    result = run("train", *words, "--run-dir", tmp_path / "refused")
    assert result.exit_code == 2
    assert "tasks.jsonl has bad rows: 1 empty prompt (tasks.jsonl, line 2" in said(result)
    result = run("train", *words, "data.skip_bad=true", "--run-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    log = (tmp_path / "run" / "log.txt").read_text("utf-8")
    assert "warning: data: skipped 1 empty prompt (tasks.jsonl, line 2: say what to draw)" in log
    assert "not an image: photos/2-0.png" in log or "not an image: photos/3-0.png" in log


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_checked_in_time(tmp_path: Path) -> None:
    """CPU seconds, as one core of an idle machine would need them."""
    for number in range(1000):
        photosets.save(tmp_path / "photos" / f"{number}.png", number % 512, (256, 256))
    lines = [
        json.dumps(
            {
                "id": f"row-{number}",
                "prompt": f"a duck in place {number}, on a red carpet, at dawn",
                "references": [f"photos/{number % 1000}.png"],
                "heldout_references": [f"photos/{(number + 1) % 1000}.png"],
                "subject": f"duck-{number // 10}",
            }
        )
        for number in range(MANY)
    ]
    file = photosets.write_lines(tmp_path / "tasks.jsonl", lines)
    before = process_time()
    source = open_source(KINDS["jsonl"](path=str(file)))
    report = check_source(source)
    checked = process_time() - before
    assert (report.rows, report.bad) == (MANY, 0)

    words = ["~data", "data.kind=jsonl", f"data.path={file}", "data.workers=2"]
    words += ["rewards.identity.segment=false"]
    recipe = load_recipe("stickers", words)
    before = process_time()
    build_stream(recipe)(0)
    started = process_time() - before
    memory = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN)) / 1024
    print(f"checked in {checked:.1f} s, started in {started:.1f} s, peak {memory:.0f} MiB")
    assert checked < 60 and started < 10 and memory < 1500


def test_the_guides_commands_about_data_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    check = re.search(r"likewise (data check \S+)", guide)
    training = re.search(r"likewise (train .* data\.kind=.*) --run-dir", guide)
    assert check is not None and training is not None
    result = run(*check[1].split())
    assert result.exit_code == 0 and " 0 bad " in said(result), result.output
    small = [*TINY[1:], "data.workers=0", "--run-dir", tmp_path / "run"]
    result = run(*training[1].split(), *small)
    assert result.exit_code == 0, result.output
    table = RunDirectory.open(tmp_path / "run").read_rewards()
    assert set(table["subject"].to_pylist()) <= {"penguin", "teapot"}
    assert table["reward/identity"].null_count == 0  # segmented by the example's own masks


def test_images_of_two_subjects_are_a_warning_with_names(tmp_path: Path) -> None:
    for subject in ("mug", "cup"):
        (tmp_path / subject).mkdir()
        photosets.scene(0).save(tmp_path / subject / "0.png")
    (tmp_path / "prompts.txt").write_text("a {} in the snow")
    result = run("data", "check", tmp_path, "--decode")
    assert result.exit_code == 0, result.output
    assert "1 times the same image, or nearly, of two subjects" in said(result)
    assert "cup (cup/0.png) and mug (mug/0.png)" in said(result)
