"""docs/extending.md, followed to the letter: its files are written, its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies import test_family_sampling, test_family_training
from policies.ledger import Ledger
from pyarrow import parquet

from likewise.config import policy_sections as sections
from likewise.records import RunDirectory

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "likewise"
GUIDE, RULE_GUIDE, OBJECTIVE_GUIDE = re.split(
    r"\n## Adding (?:a credit rule|an objective)\n",
    (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"),
)
FILE = re.compile(r"`([\w]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHIPPING = re.compile(r"   ```python\n(.*?)   ```", re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's files, and nothing else."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in FILE.findall(GUIDE):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_example_is_the_guide(folder: Path) -> None:
    names = ["compare_pix2pix.py", "pix2pix.py", "pix2pix.yaml", "tiny_pix2pix.py"]
    assert sorted(file.name for file in folder.iterdir()) == names
    for name in ("pix2pix.py", "pix2pix.yaml"):
        assert (folder / name).read_bytes() == (ROOT / "examples" / name).read_bytes()
    assert len((folder / "pix2pix.py").read_text().splitlines()) <= 80


def run_commands(commands: str, folder: Path, source: Path) -> str:
    """What shell commands of the guide print in `folder`, with the package that `source` holds."""
    programs = folder / "bin"  # `likewise` and `python` of this installation
    programs.mkdir(exist_ok=True)
    for name, options in (("likewise", "-m likewise "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {options}"$@"\n')
        (programs / name).chmod(0o755)
    paths = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    paths["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, sys.path)])
    return subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env={**os.environ, **paths},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


@pytest.mark.slow
def test_the_commands_train_and_agree_with_stock(folder: Path) -> None:
    train, compare = SHELL.findall(GUIDE)
    said = [run_commands(commands, folder, ROOT / "src") for commands in (train, compare)]
    assert "finished: 1 iterations" in said[0]
    (row,) = RunDirectory.open(folder / "runs" / "tiny").read_metrics()
    assert row["update/grad_norm"] > 0
    assert float(said[1].splitlines()[-1]) < 1e-4


@pytest.fixture
def shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the blocks about shipping define, with the policy where they say that it is."""
    monkeypatch.syspath_prepend(folder)
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


def copied(folder: Path, *parts: str) -> Path:
    """The package in `folder`: copies of these parts, and links to all others."""
    package = folder / "likewise"
    package.mkdir(parents=True)
    for part in PACKAGE.iterdir():
        if part.name in parts:
            shutil.copytree(part, package / part.name)
        else:
            (package / part.name).symlink_to(part)
    return package


def with_rule(folder: Path) -> Path:
    """`folder`, with a copy of the package that has the guide's credit rule."""
    package = copied(folder, "algorithm", "config")
    function, row, name = PYTHON.findall(RULE_GUIDE)
    rules, recipes = package / "algorithm" / "rules.py", package / "config" / "credit_rules.py"
    replace(rules, r"(?=^RULES: )", f"{function}\n\n")
    replace(rules, r"(?<=^RULES: dict\[str, Rule\] = \{\n)", row)
    replace(recipes, r"^    kind: Literal\[\"minimum\".*\n", name)
    return folder


def with_objective(folder: Path) -> Path:
    """`folder`, with a copy of the package that has the guide's objective."""
    package = copied(folder, "trainer", "config")
    function, row, section, name = PYTHON.findall(OBJECTIVE_GUIDE)
    losses, recipes = (
        package / "trainer" / "image_objectives.py",
        package / "config" / "objectives.py",
    )
    replace(losses, r"(?=^# Losses that are means)", f"{function}\n\n")
    replace(losses, r"(?<=^IMAGE_LOSSES: dict\[str, ImageLoss\] = \{)", f"\n{row}")
    replace(recipes, r"^AnyObjective = .*\n", f"{section}\n\n{name}")
    return folder


def replace(file: Path, pattern: str, text: str) -> None:
    """Put `text` in the only part of a file that a pattern matches."""
    content, count = re.subn(pattern, lambda _: text, file.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    file.write_text(content, encoding="utf-8")


def test_a_credit_rule_is_a_function_and_a_row(tmp_path: Path) -> None:
    (command,) = SHELL.findall(RULE_GUIDE)
    run_commands(command, tmp_path, with_rule(tmp_path / "src"))
    (metrics,) = RunDirectory.open(tmp_path / "runs" / "median").read_metrics()
    assert metrics["update/grad_norm"] > 0
    table = parquet.read_table(tmp_path / "runs" / "median" / "rewards" / "000001.parquet")
    z = np.array([table[f"z/{name}"] for name in ("prompt", "identity", "likeness")])
    assert np.array(table["combined"]) == pytest.approx(np.sort(z, axis=0)[1], abs=1e-6)
    assert z.std(axis=1).min() > 0.5


def test_an_objective_is_a_function_and_a_row(tmp_path: Path) -> None:
    (command,) = SHELL.findall(OBJECTIVE_GUIDE)
    source = with_objective(tmp_path / "src")
    norms = []
    for kind in ("matching", "awm"):  # whose gradient it has while the ratio is 1
        run_commands(command.replace("matching", kind), tmp_path, source)
        (metrics,) = RunDirectory.open(tmp_path / "runs" / kind).read_metrics()
        norms.append(metrics["update/grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) and norms[0] > 0
