"""What is imported is what `pyproject.toml` declares, in versions that are recent enough."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "likewise"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Import name → distribution, where they differ by more than - and _.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}

# Extra → where its packages may be imported: whoever comes there has asked for it.
PLACES = {
    "serve": ("serve/", "app/"),  # the extra `app` names it
    "ray": ("serve/on_ray.py", "study/ray_tasks.py"),
    "quantization": ("policies/common/pipeline_loading.py",),
    "segment": ("rewards/segmenters/u2net.py",),
}

# Needed without an import of ours: the default tracker, through accelerate.
NOT_IMPORTED = {"tensorboard"}


def requirements(extra: str | None = None) -> dict[str, Requirement]:
    """Of the package itself, or of an extra, by name."""
    listed = PROJECT["dependencies"]
    if extra is not None:
        listed = PROJECT["optional-dependencies"][extra]
    found = {name_of(one.name): one for one in map(Requirement, listed)}
    assert len(found) == len(listed), "a package is declared twice"
    return found


def name_of(package: str) -> str:
    """As the package index spells it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def imported() -> Iterator[tuple[str, str]]:
    """File and distribution of every import of another's package, wherever in the file it is."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top != "likewise" and top not in sys.stdlib_module_names:
                    where = file.relative_to(SOURCE).as_posix()
                    yield where, name_of(DISTRIBUTIONS.get(top, top))


def test_every_import_is_declared() -> None:
    found = set(imported())
    assert len({name for _, name in found}) > 20  # else nothing was searched
    own = requirements()
    undeclared = {
        f"{where} imports {name}"
        for where, name in found
        if name not in own
        and not any(
            name in requirements(extra) and where.startswith(places)
            for extra, places in PLACES.items()
        )
    }
    assert not undeclared


def test_what_is_declared_is_imported() -> None:
    used = {name for _, name in imported()}
    assert requirements().keys() - used == NOT_IMPORTED


@pytest.mark.parametrize("extra", [None, "serve", "segment", "quantization"])
def test_the_tested_versions_are_recent_enough(extra: str | None) -> None:
    """Those here, and those of `constraints.txt`, which `make setup` installs."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pinned = {name_of(name): pin for name, pin in pins.items()}
    for name, requirement in requirements(extra).items():
        assert requirement.specifier, f"{name} has no lower bound"
        assert requirement.specifier.contains(pinned[name]), f"{name} is pinned to {pinned[name]}"
        assert requirement.specifier.contains(version(name)), f"{name} is too old here"
