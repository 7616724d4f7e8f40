"""What is installed: declared dependencies, and a wheel that trains far from the source."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"


def imported() -> set[str]:
    """Top-level names of everything that the package imports, but itself and Python's own."""
    found: set[str] = set()
    for file in (SOURCE / "likewise").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"likewise"}


def declared() -> set[str]:
    """Distributions that `pyproject.toml` names, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    return {_normal(re.split(r"[^\w.-]", line)[0]) for line in lines}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_that_is_imported_is_declared() -> None:
    homes = packages_distributions()
    lacking = {
        name: homes.get(name, [name])
        for name in imported()
        if not {_normal(home) for home in homes.get(name, [name])} & declared()
    }
    assert lacking == {}


def run(*words: str | Path, folder: Path = ROOT) -> str:
    """Stdout of a command that knows nothing of this checkout."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=folder, env=clean
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, ROOT)
    run(sys.executable, "-m", "pip", *build)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of a new environment are: the wheel, and the dependencies used here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    here = [path for path in sys.path if path.endswith("-packages")]
    Path(site, "dependencies.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    return python.parent


def files(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(SOURCE).as_posix()


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(files(SOURCE / "likewise"))
    assert {Path(name).suffix for name in names} >= {".safetensors", ".webp", ".yaml", ".json"}
    assert "likewise/py.typed" in names


@pytest.mark.slow
def test_an_installed_wheel_trains_elsewhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import likewise; print(likewise.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)
    said = run(installed / "likewise", "train", "stickers", "run.iterations=1", folder=tmp_path)
    assert "finished: 1 iterations in runs/stickers-" in said
    (drawn,) = tmp_path.glob("runs/stickers-*/samples/000001.png")
    assert drawn.stat().st_size > 10_000
    report = run(installed / "likewise", "report", drawn.parents[1], folder=tmp_path)
    assert "report.html" in report and (tmp_path / "report.html").is_file()
