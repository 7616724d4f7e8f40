"""What commands print is their own: no library greets, warns or draws bars beside them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import TINY

PHOTO = Path(__file__).parents[2] / "examples" / "penguin.png"
TABLE = "[ ┏┃┡│├└]"

# Words of a command, in which RUN is a finished run → what its lines begin with.
COMMANDS = [
    (
        ["train", *TINY, "run.processes=2", "--run-dir", "mine"],
        "run directory: |   1/1  |finished: |look at it: |draw with it: ",
    ),
    (["train", "--resume", "RUN"], ".*RUN is finished already"),
    (
        ["evaluate", "RUN", "--tasks=2", "--steps=2", "--out=here"],
        f"{TABLE}|before and after, |all numbers: ",
    ),
    (["report", "RUN"], "report.html: "),
    (["data", "check", PHOTO.parent / "subjects"], ".* rows, 0 bad"),
    (["pretrain", "vae", "--help"], "[ ╭│╰]|$"),
]
SLOW = [
    (["doctor"], "what |[A-Za-z, ]+ (OK|warning) |$|0 problem"),
    (["generate", "--adapter=RUN", "--reference", PHOTO, "--prompt=a penguin"], "image.png"),
    (["export", "RUN", "--out=lora.safetensors"], "lora.safetensors: "),
    (
        ["attribute", "RUN", "--tasks=2", "--resamples=2", "--out=shares.json"],
        f"{TABLE}|(reward|evaluator)/.* (is decided|never varies)|all numbers: |$|as a recipe's "
        "|credit:|no measured time weights",
    ),
    (["train", *TINY, "--dry-run"], ".*"),
    (
        ["pretrain", "identity", "--steps=1", "--workers=0", "--work=work", "--models=models"],
        r"identity 1/1 |\d+\.\d min left",
    ),
]


@pytest.mark.parametrize(
    ("words", "own"),
    [*COMMANDS, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)],
    ids=lambda value: " ".join(map(str, value[:2])) if isinstance(value, list) else "",
)
def test_every_line_is_the_commands_own(
    words: list[str | Path], own: str, finished_run: Path, tmp_path: Path
) -> None:
    """On stdout; on stderr there is nothing at all."""
    filled = [str(word).replace("RUN", str(finished_run)) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "likewise", *filled],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if "VERBOSITY" not in key},
    )
    pattern = own.replace("RUN", re.escape(str(finished_run)))
    foreign = [line for line in done.stdout.splitlines() if not re.match(pattern, line)]
    assert (done.returncode, foreign, done.stderr.strip()) == (0, [], "")
