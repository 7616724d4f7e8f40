"""The layout of the package, enforced from the syntax tree.

A *package* here is a module or package directly under `likewise`. `LAYERS` lists them from the
bottom up, and for each the others that it may import. What is not named there is out of reach:
siblings never import each other, and nobody imports a layer above. Imports inside functions and
under TYPE_CHECKING count too. A new package needs a row here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

BASE = {"assets", "types", "config", "seeding", "protocols", "sheets", "records", "quiet"}
BASE |= {"images", "fingerprints", "imports", "hub", "tensors", "printable", "terminal"}
BASE |= {"pretrained", "cores", "devices", "sharding"}
PLUG_INS = {"policies", "rewards", "data"}
MATHS = {"algorithm"}
PAPERS = {"assets", "types", "config", "sheets", "records", "printable"}  # read without torch
PAPERS |= {"cores"}
SIBLINGS = {"trainer", "evaluation", "study", "report", "pretrain"}

LAYERS: dict[str, set[str]] = {
    "__init__": set(),
    # The bottom layer: what everybody may know.
    "assets": set(),
    "types": set(),
    "config": {"assets"},
    "seeding": set(),
    "protocols": {"types"},
    "sheets": {"types"},
    "images": set(),
    "fingerprints": set(),
    "quiet": set(),
    "cores": set(),
    "devices": {"cores"},
    "imports": set(),
    "hub": set(),
    "printable": set(),
    "terminal": {"printable"},
    "tensors": set(),
    "pretrained": {"tensors", "quiet", "hub"},
    # One model over several processes; what it is a model of, it does not know.
    "sharding": {"tensors"},
    "records": {"config", "printable"},
    # What numbers in files and arrays say: intervals, tests, fronts, diagnostics.
    "analysis": PAPERS,
    # Pure maths on tensors.
    "algorithm": {"types", "config", "seeding", "protocols"},
    # Plug-ins: each behind a protocol, none aware of another.
    "policies": BASE | MATHS,
    "rewards": BASE | MATHS,
    "data": BASE | MATHS,
    # Policy → trajectories → images → reward table, through protocols only.
    "rollout": BASE | MATHS,
    # The reward service: the reward is handed in by the command, and so is everything it needs.
    "serve": {"types"},
    # How much memory a policy needs, without its weights.
    "footprint": BASE | MATHS,
    # Siblings. Training and evaluation know plug-ins only by protocol; a study starts runs as
    # processes of their own, and a report reads what runs and studies wrote, so that neither knows
    # torch; pretraining builds the plug-ins' nano models, so it knows them.
    "trainer": BASE | MATHS | {"rollout"},
    "evaluation": BASE | MATHS | {"rollout", "analysis"},
    "study": PAPERS | {"analysis"},
    "report": PAPERS | {"analysis", "images"},
    # Human studies: their files, their votes, and what came out.
    "people": PAPERS | {"analysis", "images", "seeding", "report"},
    "pretrain": BASE | MATHS | PLUG_INS,
    # The only package that puts concrete plug-ins together by name.
    "builders": BASE | MATHS | PLUG_INS | {"rollout", "analysis"} | SIBLINGS,
    # Entry points. They ask `builders` for parts; the web app only reads run directories.
    "api": BASE | MATHS | {"rollout", "analysis"} | SIBLINGS | {"builders", "footprint", "people"},
    "app": PAPERS | {"analysis", "images", "report", "serve", "people", "terminal"},
    "cli": BASE
    | MATHS
    | {"rollout", "analysis"}
    | SIBLINGS
    | {"builders", "footprint", "serve", "people", "api", "app"},
    "__main__": {"cli"},
}

# These never import torch or what stands on it, so that commands and tools start at once.
TORCH_FREE = {"__init__", "assets", "config", "images", "records", "sheets", "types"}
TORCH_FREE |= {"fingerprints", "printable", "terminal", "cores"}
TORCH_FREE |= {"analysis", "study", "report", "serve", "seeding", "people", "app"}
TORCH = {"torch", "accelerate", "diffusers", "peft", "transformers"}
# They import it inside functions at most.
TORCH_LATER = {"quiet", "cli", "api", "api.early_checks", "api.data_checks"}

# `algorithm` has no models, no files and no network: beside likewise it imports only these.
PURE = {"__future__", "abc", "collections", "dataclasses", "enum", "functools", "itertools"}
PURE |= {"math", "operator", "torch", "typing"}

# What runs code that a file or a stranger sends. (Processes of one run pickle to each other.)
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

SOURCE = Path(__file__).parents[1] / "src" / "likewise"
MODULES = {  # dotted name → source
    ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts): file.read_text("utf-8")
    for file in sorted(SOURCE.rglob("*.py"))
}


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that `module` imports."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            if base == "likewise":  # `from likewise import data` names a package
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def violations(module: str, source: str) -> list[str]:
    """What `module` (dotted; a package ends in `__init__`) imports against the plan."""
    package = module.split(".")[1]
    if package not in LAYERS:
        return [f"{module} is in no package of LAYERS: give it a row"]
    found = []
    for line, name in imports(module, source):
        top, other = [*name.split("."), ""][:2]
        if top == "likewise":
            wrong = other in LAYERS and other not in LAYERS[package] | {package}
        else:
            wrong = (package in TORCH_FREE and top in TORCH) or (
                package in MATHS and top not in PURE
            )
        if wrong:
            found.append(f"{module}:{line} imports {name}")
    return found


def assert_kept_everywhere(rule: Callable[[str, str], Iterable[str]]) -> None:
    """Fail with the list of all violations that a rule (module, source) → violations finds."""
    assert len(MODULES) > 100  # else nothing was searched
    found = [each for module, source in MODULES.items() for each in rule(module, source)]
    assert not found, "\n" + "\n".join(found)


def test_all_modules_keep_to_the_plan() -> None:
    assert_kept_everywhere(violations)


def test_every_package_stands_on_packages_listed_before_it() -> None:
    below: set[str] = set()
    for package, may_import in LAYERS.items():
        assert may_import <= below, (
            f"{package} would import {sorted(may_import - below)} from above"
        )
        below.add(package)


def test_torch_free_packages_stand_on_torch_free_packages() -> None:
    assert all(LAYERS[package] <= TORCH_FREE for package in TORCH_FREE)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("likewise.trainer.loop", "from likewise.evaluation import bench"),
        ("likewise.trainer.loop", "import likewise.policies.flux"),
        ("likewise.policies.flux", "from ..rewards.identity import score"),
        ("likewise.policies.flux", "from .. import data"),
        ("likewise.data.__init__", "from ..builders import policy"),
        ("likewise.rollout", "from .rewards import identity"),
        ("likewise.rollout", "from likewise import cli"),
        ("likewise.report.html", "def late():\n    from likewise.trainer import loop"),
        ("likewise.config.recipe", "from ..types import Task"),
        ("likewise.config.recipe", "def late():\n    import torch.nn"),
        ("likewise.records", "from transformers import AutoModel"),
        ("likewise.algorithm.credit", "from pathlib import Path"),
        ("likewise.attic.old", "import json"),
    ],
)
def test_a_forbidden_import_is_detected(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("likewise.cli", "from likewise import __version__, builders"),
        ("likewise.policies.flux", "import torch\nfrom . import lora\nfrom ..types import Task"),
        (
            "likewise.pretrain.evaluators",
            "from likewise.data import scenes\nfrom .. import rewards",
        ),
        ("likewise.algorithm.credit", "import math\nfrom torch import Tensor"),
        ("likewise.records", "import json\nfrom likewise.config import Recipe"),
    ],
)
def test_a_permitted_import_passes(module: str, source: str) -> None:
    assert not violations(module, source)


TORCH_FREE_HERE = TORCH_FREE & {module.split(".")[1] for module in MODULES}


@pytest.mark.parametrize("package", sorted(TORCH_FREE_HERE | TORCH_LATER))
def test_torch_free_package_really_loads_without_torch(package: str) -> None:
    name = "likewise" if package == "__init__" else f"likewise.{package}"
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def calls(source: str) -> Iterator[tuple[ast.Call, str]]:
    """Every call in a source, and what is called, as it is written there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def unpickling(module: str, source: str) -> Iterator[str]:
    """Imports and calls by which `module` would run code that a file or a stranger sends."""
    for line, name in imports(module, source):
        if name.split(".")[0] in UNSAFE:
            yield f"{module}:{line} imports {name}"
    safe = {("weights_only", "True"), ("allow_pickle", "False")}
    for call, name in calls(source):
        given = {(one.arg, ast.unparse(one.value)) for one in call.keywords}
        if name in ("torch.load", "np.load") and not safe & given:
            yield f"{module}:{call.lineno} calls {name} without weights_only or allow_pickle"


def test_nothing_is_unpickled() -> None:
    assert_kept_everywhere(unpickling)


# Modules that may call Image.open: the reader of people's files, the service's (of two formats,
# from strangers), and those that read what likewise itself ships or has just written.
READERS = {"images", "serve.decoding", "data.stickers.art", "pretrain.views"}


def opening(module: str, source: str) -> Iterator[str]:
    """Calls by which `module` opens image files, although it is none of `READERS`."""
    for call, name in calls(source):
        if name == "Image.open" and module.removeprefix("likewise.") not in READERS:
            yield f"{module}:{call.lineno} calls {name}"


def test_image_files_are_opened_in_one_place() -> None:
    assert_kept_everywhere(opening)


# Where models, tokenizers and processors are read with the libraries' own functions. All others go
# through `likewise.pretrained`, which checks what it reads and prepares images with PIL.
MODEL_READERS = {
    "likewise.pretrained.models",
    "likewise.pretrained.processors",
    "likewise.policies.common.pipeline_loading",  # a pipeline around parts that are loaded already
    "likewise.builders.policies",  # our own policies' method of that name
    "likewise.footprint.meta",  # configs, without weights
}
READING = {"from_pretrained", "from_single_file", "get_image_processor_dict"}
PICKLED = {"torch.load", "torch.hub.load", "torch.jit.load", "numpy.load", "np.load"}
PIL_ONLY = "ImageProcessor"  # a class that ends so, and not in Pil, is torchvision's where it can

# DINOv3 has no PIL version: its settings are read, and followed. MobileNet's weights come in a
# package that has to be installed on purpose.
READ_OTHERWISE = {
    "likewise.rewards.common.dinov3": "ImageProcessingMixin.get_image_processor_dict",
    "likewise.rewards.mobilenet": "torch.load",
}


def reads(module: str, source: str) -> Iterator[str]:
    """Calls in `module` that read models in another way than `likewise.pretrained`."""
    if module in MODEL_READERS or module.split(".")[1] == "pretrain":  # which reads its own files
        return
    for call, name in calls(source):
        reading = name.rpartition(".")[2] in READING or name in PICKLED or name.endswith(PIL_ONLY)
        if reading and name != READ_OTHERWISE.get(module):
            yield f"{module}:{call.lineno} calls {name}"


def test_models_are_read_through_one_package() -> None:
    assert_kept_everywhere(reads)


# safetensors makes files that only their owner may read, and its errors name no file: both are
# mended in `likewise.tensors`. Pools are read by nobody but the training that makes them.
WEIGHT_WRITERS = {"likewise.tensors"}
WRITING = {"save_file", "serialize_file", "save_pretrained"}


def writes(module: str, source: str) -> Iterator[str]:
    """Calls in `module` that write weights, though it is none of `WEIGHT_WRITERS`."""
    own = "from likewise.tensors import" in source
    for call, name in calls(source):
        allowed = module in WEIGHT_WRITERS or (own and name == "save_pretrained")
        if name.rpartition(".")[2] in WRITING and not allowed:
            yield f"{module}:{call.lineno} calls {name}"


def test_weights_are_written_in_one_place() -> None:
    assert_kept_everywhere(writes)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (writes, "save_file(tensors, file)"),
        (writes, "model.to('cpu').save_pretrained(folder)"),
        (unpickling, "import pickle"),
        (unpickling, "def late():\n    from joblib import load"),
        (unpickling, "torch.load(file)"),
        (unpickling, "np.load(file, allow_pickle=True)"),
        (opening, "with Image.open(file) as image:\n    pass"),
    ],
)
def test_a_planted_violation_is_listed(
    rule: Callable[[str, str], Iterable[str]], source: str
) -> None:
    assert len(list(rule("likewise.rewards.x", source))) == 1


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (unpickling, "rewards.x", "torch.load(file, weights_only=True)"),
        (unpickling, "rewards.x", "np.load(file, allow_pickle=False)"),
        (opening, "images", "Image.open(file)"),
        (writes, "tensors", "model.save_pretrained(folder)"),
    ],
)
def test_what_is_allowed_is_not_listed(
    rule: Callable[[str, str], Iterable[str]], module: str, source: str
) -> None:
    assert list(rule(f"likewise.{module}", source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "AutoModel.from_pretrained(name)",
        "transformers.CLIPModel.from_pretrained(name, dtype=dtype)",
        "kind.from_pretrained(name)",
        "torch.load(file)",
        "BitImageProcessor(size=64)",
    ],
)
def test_the_search_for_readers_finds_them(source: str) -> None:
    assert list(reads("likewise.rewards.x", source))


def test_tests_are_found_by_short_names() -> None:
    """Functions of under 60 characters, in files whose names no other file of tests has."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    assert len(names) > 1000 and not {name for name in names if len(name) >= 60}
    files_named = Counter(file.name for file in files if file.name != "conftest.py")
    assert not {name for name, count in files_named.items() if count > 1}


APART = {"evaluators.py", "loop.py", "report.py"}  # of `pretrain`, which nobody opens beside others


def test_modules_have_names_of_their_own() -> None:
    """In a search, or a stack trace, the name of a file says which one it is."""
    named = Counter(file.name for file in SOURCE.rglob("*.py") if file.name != "__init__.py")
    assert {name for name, count in named.items() if count > 1} == APART
