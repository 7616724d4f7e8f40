"""Nothing in the package is there for nobody: functions, classes and methods have a user."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALLED_BY_PYYAML = "likewise.config.yaml_text._Dumper.ignore_aliases"


def parsed(folder: str) -> dict[str, ast.Module]:
    """Dotted name → syntax tree of every module in a folder of the project."""
    trees = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT / folder).with_suffix("").parts)
        trees[name.removesuffix(".__init__")] = ast.parse(file.read_text("utf-8"))
    return trees


def mentioned(trees: Iterable[ast.Module]) -> Iterator[str]:
    """Dotted names of what is imported, names behind a dot, and strings, which getattr may take."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def defined(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """What Python or a decorator does not use by itself."""
    for node in body:
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef)
            and not node.decorator_list
            and not node.name.startswith("__")
        ):
            yield node


def unused(modules: dict[str, ast.Module], programs: Iterable[ast.Module] = ()) -> list[str]:
    """Dotted names of what `modules` define and neither they nor `programs` use."""
    known = set(mentioned([*modules.values(), *programs]))
    found = []
    for module, tree in modules.items():
        here = known | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for one in defined(tree.body):
            name = f"{module}.{one.name}"
            found += [] if {one.name, name} & here else [name]
            methods = defined(one.body) if isinstance(one, ast.ClassDef) else ()
            found += [f"{name}.{own.name}" for own in methods if own.name not in known]
    return found


def test_everything_has_a_user() -> None:
    assert unused(parsed("src"), parsed("scripts").values()) == [CALLED_BY_PYYAML]


def test_the_search_finds_what_has_no_user() -> None:
    source = """
def used(): ...
def alone(): ...
class Plain:
    def of(self): used()
    def off(self): ...
"""
    user = ast.parse("from likewise.one import Plain\nPlain().of()")
    found = unused({"likewise.one": ast.parse(source)}, [user])
    assert found == ["likewise.one.alone", "likewise.one.Plain.off"]
