"""docs/extending.md, followed to the letter: its files are written, its commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from policies import test_family_sampling, test_family_training
from policies.ledger import Ledger

from likewise.config import policies as sections
from likewise.records import RunDirectory

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILE = re.compile(r"`([\w]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
SHIPPING = re.compile(r"   ```python\n(.*?)   ```", re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's files, and nothing else."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in FILE.findall(GUIDE):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_example_is_the_guide(place: Path) -> None:
    names = ["compare_pix2pix.py", "pix2pix.py", "pix2pix.yaml", "tiny_pix2pix.py"]
    assert sorted(file.name for file in place.iterdir()) == names
    for name in ("pix2pix.py", "pix2pix.yaml"):
        assert (place / name).read_bytes() == (ROOT / "examples" / name).read_bytes()
    assert len((place / "pix2pix.py").read_text().splitlines()) <= 80


def test_the_commands_train_and_agree_with_stock(place: Path) -> None:
    programs = place / "bin"  # `likewise` and `python` of this installation
    programs.mkdir()
    for name, options in (("likewise", "-m likewise "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {options}"$@"\n')
        (programs / name).chmod(0o755)
    paths = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    paths["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    train, compare = SHELL.findall(GUIDE)
    said = [
        subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=place,
            env={**os.environ, **paths},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        for commands in (train, compare)
    ]
    assert "finished: 1 iterations" in said[0]
    (row,) = RunDirectory.open(place / "runs" / "tiny").read_metrics()
    assert row["update/grad_norm"] > 0
    assert float(said[1].splitlines()[-1]) < 1e-4


@pytest.fixture
def shipped(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the blocks about shipping define, with the policy where they say that it is."""
    monkeypatch.syspath_prepend(place)
    import pix2pix

    monkeypatch.setitem(sys.modules, "likewise.policies.pix2pix", pix2pix)
    names: dict[str, Any] = {**vars(sections)}
    for block in SHIPPING.findall(GUIDE):
        exec(textwrap.dedent(block), names)
    yield names
    for name in ("pix2pix", "tiny_pix2pix"):
        sys.modules.pop(name, None)


def test_a_shipped_policy_passes_the_tests_of_all(shipped: dict[str, Any]) -> None:
    section = shipped["Pix2Pix"]()
    assert (section.forwards, section.model) == (2, "timbrooks/instruct-pix2pix")
    family, ledger = shipped["FAMILY"], Ledger()
    test_family_sampling.test_the_ode_sampler_is_the_stock_pipeline(family, ledger)
    test_family_sampling.test_a_replay_has_the_ratio_one(family, ledger)
    test_family_sampling.test_a_mixed_batch_equals_one_by_one(family, ledger)
    test_family_sampling.test_planned_shapes_are_those_of_encoding(family, ledger)
    test_family_training.test_a_grpo_step_changes_only_the_adapter(family, ledger)
    assert ledger.cells["InstructPix2Pix", "ode"] == 0.0
