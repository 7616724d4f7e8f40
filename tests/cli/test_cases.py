"""Inputs that once failed, kept as small folders with a `run.sh` each, outside the repository.

    pytest -m slow tests/cli/test_cases.py -v        one line per case: passed or failed

They are looked for in `shared/cases` of the repository, or where LIKEWISE_CASES says; without them,
all tests here are skipped. Every case runs in a copy, with this interpreter's `likewise`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = Path(os.environ.get("LIKEWISE_CASES", ROOT / "shared" / "cases"))
WHOLE = "rewards.identity.segment=false"  # most cases have no masks, and are about something else


@dataclass(frozen=True)
class Outcome:
    """What a case's output must hold, and must not: regular expressions, searched line by line."""

    says: tuple[str, ...]
    never: tuple[str, ...] = ()
    masked: bool = False  # whether rewards look at subjects alone, as the recipe has it


OUTCOMES = {
    "c01-hash": Outcome((r"path: .*my photos #2'?$",), (r"my photos$",)),
    "d01-appledouble": Outcome((r" 0 bad",), (r"MACOSX", r"\._")),
    "d04-formats": Outcome((r" 0 bad", r"left out.*6\.heic"), (r"no photo \(", r" [1-9]\d* bad")),
    "d05-bigtext": Outcome((r" 0 bad", r"^finished"), (r"truncated", r" [1-9]\d* bad")),
    "d07-truncated": Outcome((r"data check /\S+/middle --kind folder --decode",)),
    "d11-dead-link": Outcome((r"missing image", r"link to \.\./gone/blob"), (r" 0 bad",)),
    "e02-bench-appledouble": Outcome((r"dinov2",), (r"\._00", r"error")),
    "e11-bom-crlf": Outcome((r"dinov2",), (r"error",)),
    "j02-duplicate-keys": Outcome((r"occurs twice",), (r" 0 bad",)),
    "j08-surrogate": Outcome((r"half of a surrogate pair",), (r" 0 bad",)),
    "j13-long-prompt": Outcome((r"prompts are longer than the 16 tokens",)),
    "j17-class-name": Outcome((r"mean 'class'", r"mean 'references'"), (r"mean 'class_name'",)),
    "l02-newer-peft": Outcome((r"l\.png$",), (r"error",)),
    "l03-text-encoder": Outcome((r"error: .*text.encoder",)),
    "l07-nan": Outcome((r"error: .*(not finite|NaN)",)),
    "r01-dataset-changed": Outcome((r"error: .*dataset", r"^exit 2$")),
    "r06-mode-600": Outcome((r"t\.png$", r"^-rw-r--r--"), (r"^600 ", r"error")),
    "r07-refused": Outcome((r"photos",), (r"exists and is not an empty folder",)),
    "r08-export-unwritable": Outcome((r"error: .*cannot be written|Permission denied",)),
    "w00-no-masks": Outcome((r"rewards\.identity: .*no row of .* has a mask",), masked=True),
}


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="needs cases in shared/cases, or LIKEWISE_CASES")
def test_every_case_has_an_outcome() -> None:
    assert {file.parent.name for file in CASES.glob("*/run.sh")} <= set(OUTCOMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTCOMES)
def test_a_case_ends_as_it_should(name: str, finished_run: Path, tmp_path: Path) -> None:
    if not (CASES / name / "run.sh").is_file():
        pytest.skip(f"needs {name} in shared/cases, or LIKEWISE_CASES")
    if "setpriv" in (CASES / name / "run.sh").read_text("utf-8") and os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    found = run_case(name, finished_run, tmp_path)
    outcome, shown = OUTCOMES[name], "\n".join(found)
    assert "Traceback" not in shown
    for words in outcome.says:
        assert any(re.search(words, line) for line in found), f"no {words!r} in\n{shown}"
    for words in outcome.never:
        assert not any(re.search(words, line) for line in found), f"{words!r} in\n{shown}"


def run_case(name: str, base_run: Path, folder: Path) -> list[str]:
    """The lines that a case prints, without colours."""
    cases = folder / "cases"
    shutil.copytree(CASES, cases, symlinks=True)
    shutil.copytree(CASES / "e02-bench-appledouble", cases / "e00-bench", dirs_exist_ok=True)
    script = cases / name / "run.sh"
    # Prompts of folders had {class} where {} is now, and would be refused before all else.
    script.write_text(script.read_text("utf-8").replace("{class}", "{}"), "utf-8")
    with (cases / "env.sh").open("a", encoding="utf-8") as settings:
        settings.write(f'\ncp -a "{base_run}" "$OUT/base-run"\n')
        if not OUTCOMES[name].masked:
            settings.write(f'export TINY="$TINY {WHOLE}"\n')
    environment = {
        **os.environ,
        "PROJECT": str(ROOT),
        "EXAMPLES": str(ROOT / "examples"),
        "LIKEWISE": f"{sys.executable} -m likewise",
        "COLUMNS": "1000",  # no line is broken
        "NO_COLOR": "1",
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        ["bash", cases / name / "run.sh"],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.stdout.splitlines()
