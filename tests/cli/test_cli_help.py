"""Help, completion and wrong options: in full sentences, and without waiting for libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import run, said
from typer.main import get_command

from likewise import __version__
from likewise.builders.datasets import SOURCES
from likewise.builders.policies import FORMATS
from likewise.cli import (
    DATA,
    MODELS,
    RESULTS,
    RUN,
    SERVE,
    app,
    compare,
    data_check,
    evaluate,
    export,
)
from likewise.config import shipped_studies
from likewise.evaluation.benchmark_protocols import PROTOCOLS
from likewise.study.executors import EXECUTORS

HEAVY = {"accelerate", "diffusers", "peft", "torch", "transformers"}  # seconds
SOME = HEAVY | {"matplotlib", "numpy", "PIL", "pyarrow", "scipy", "likewise.config"}
PHOTOS = Path(__file__).parents[2] / "examples" / "subjects"


def commands(command: Any = None, name: str = "likewise") -> Iterator[tuple[str, Any]]:
    """Every command, and every group of commands, by its full name."""
    command = command or get_command(app)
    yield name, command
    for part, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {part}")


def options() -> Iterator[tuple[str, Any]]:
    """Every option and argument of every command, but not `--help`."""
    for name, command in commands():
        for option in command.params:
            yield f"{name} {option.opts[0] if option.opts else option.name}", option


def is_phrase(text: str | None) -> bool:
    """A capital first, some words and a full stop; not the end of a sentence without its noun."""
    stump = r"(Of|For|How|Where|What|The|A|An|Default)\b"
    enough = re.fullmatch(r"[A-Z].*\.", text or "", re.DOTALL) and len((text or "").split()) > 2
    return bool(enough) and not re.match(stump, text or "")


def lacking(option: Any) -> Iterator[str]:
    """What the help of an option does not say."""
    if not is_phrase(option.help):
        yield f"is not a phrase: {option.help!r}"
    given = option.default is not None or isinstance(option.show_default, str)
    if not (option.required or given or option.is_flag):
        yield "has no default"
    if option.type_descriptor.annotation in (int, float):
        units = (
            r"number of|\bfactor\b|\bshare\b|\bseed\b|\bport\b|minutes|milliseconds|\b(MiB|GB)\b"
        )
        if not re.search(units, option.help or "", re.IGNORECASE):
            yield "is a number without a unit"


def test_every_option_is_a_phrase_with_unit_and_default() -> None:
    found = list(options())
    assert len(found) > 90
    assert [f"{name} {what}" for name, one in found for what in lacking(one)] == []


@pytest.mark.parametrize("text", ["", "Seed.", "of the schedule.", "Of the initial noise.", "No"])
def test_what_is_no_phrase_is_noticed(text: str) -> None:
    assert not is_phrase(text)


def test_every_command_says_what_it_does() -> None:
    first = {name: (command.help or "").partition("\n\n")[0] for name, command in commands()}
    assert len(first) > 20
    assert [name for name, text in first.items() if not is_phrase(" ".join(text.split()))] == []


def test_commands_are_listed_in_groups() -> None:
    output = said(run("--help"))
    positions = [output.index(f"─ {group} ─") for group in (RUN, RESULTS, SERVE, MODELS, DATA)]
    names = [(name, command) for name, command in commands() if name.count(" ") == 1]
    assert all(name.removeprefix("likewise ") in output for name, _ in names)
    assert len(names) == 15 and all(command.rich_help_panel for _, command in names)
    assert "─ Commands ─" not in output and positions == sorted(positions)


def test_choices_are_those_of_the_program() -> None:
    assert [str(one) for one in data_check.Kind] == list(SOURCES)
    assert [str(one) for one in export.Format] == list(FORMATS)
    assert {str(one) for one in evaluate.Protocol} == set(PROTOCOLS)
    assert [str(one) for one in compare.Where] == list(EXECUTORS)
    assert all(name in said(run("compare", "--help")) for name in shipped_studies())


def loaded(*words: str | Path, **environment: str) -> tuple[int, str, set[str]]:
    """Exit code and stdout of a command, and which libraries it loaded."""
    code = (
        f"import sys; sys.argv = {['likewise', *map(str, words)]}\n"
        "from likewise.__main__ import main\n"
        "try: main()\n"
        f"finally: print(*(set(sys.modules) & {SOME}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("train --help", 0),
        ("pretrain --help", 0),
        ("evaluate --help", 0),
        ("trian", 2),
        ("train --seed 3", 2),
        ("train --gpus 0", 2),
        ("train --gpus 2", 2),
        ("train --resume somewhere seed=3", 2),
        ("generate", 2),
        ("evaluate a-run --protocol ono", 2),
        ("evaluate a-run --metric dino", 2),
        ("export a-run --format kohia", 2),
        ("data check a-folder --kind jsonls", 2),
    ],
)
def test_help_and_wrong_options_load_no_library(words: str, code: int) -> None:
    found, _, libraries = loaded(*words.split())
    # A command that finds an error looks whether it is one of recipes.
    assert (found, libraries - {"likewise.config"} if code else libraries) == (code, set())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("data", "check", PHOTOS), 0),
        (("data", "check", "nowhere"), 2),
        (("recipes",), 0),
        (("recipes", "stikers"), 2),
        (("train", "stikers"), 2),
        (("train", "stickers", "rollout.group_size=x"), 2),
        (("train", "stickers", "--run-dir", PHOTOS), 2),
        (("train", "--resume", "nowhere"), 2),
        (("train", "--extend", "nowhere"), 2),
        (("generate", "--adapter", "nowhere", "--reference", PHOTOS, "--prompt", "a duck"), 2),
        (("export", "nowhere"), 2),
        (("evaluate", "nowhere"), 2),
        (("attribute", "nowhere"), 2),
        (("advise", "nowhere"), 2),
        (("compare", "nowhere"), 2),
    ],
    ids=lambda value: " ".join(map(str, value[:2])) if isinstance(value, tuple) else "",
)
def test_what_needs_no_model_loads_no_torch(words: tuple[str | Path, ...], code: int) -> None:
    found, _, libraries = loaded(*words)
    assert (found, libraries & HEAVY) == (code, set())


@pytest.mark.parametrize(
    ("line", "expected", "needs"),
    [
        ("likewise eval", "evaluate", set()),
        ("likewise train --gpu-m", "--gpu-memory", set()),
        ("likewise evaluate run --only bef", "before", set()),
        ("likewise train stickers-na", "stickers-naive-1-1.5", {"likewise.config"}),
        ("likewise compare stick", "stickers-ablation", {"likewise.config"}),
    ],
)
def test_the_shell_completes(line: str, expected: str, needs: set[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    code, output, libraries = loaded(_LIKEWISE_COMPLETE="complete_bash", **words)
    assert (code, libraries) == (0, needs)
    assert expected in output.split()


def test_the_version_is_printed() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"likewise {__version__}\n")
