"""YAML in and out: safe, without YAML's surprises.

PyYAML keeps the last of two equal keys, and takes `1e-4` for a string, `1:30` for 90, `no` for
false and `010` for 8. Here equal keys are an error, and plain scalars mean what they mean in
JSON: null, true, false, decimal numbers; all else is a string. Aliases (`*name`) are refused:
with them a short text can stand for an endless structure, and recipes have `extends`. So are tags
(`!name`), which ask for other types.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import yaml

from likewise.config.json_text import check_text
from likewise.config.problems import RecipeError

# tag → what a plain scalar must look like, and its possible first characters ("" is an empty one)
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are refused", problem_mark=event.start_mark
            )
        if event.tag:
            raise yaml.MarkedYAMLError(
                problem=f"tags ({event.tag}) are refused", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                problem = f"the key {key.value!r} occurs twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _SCALARS.items():
    # The dumper keeps PyYAML's own rules beside ours, so that it quotes what either would misread.
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )


def parse(text: str, label: str) -> Any:
    """The value that `text` holds; None for an empty text.

    Args:
        label: Where the text is from, for messages.

    Raises:
        RecipeError: invalid YAML, a key that occurs twice, an alias, a tag, or a text that no file
            could hold.
    """
    try:
        value = yaml.load(text, _Loader)
        check_text(value)
        return value
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{label}{line}: {problem}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; [[[[…
        raise RecipeError(f"{label}: no value that a recipe could hold: {error}") from error


def parse_value(text: str, label: str) -> Any:
    """The value of an override: as `parse`, but nothing of it is a comment.

    A plain text is meant as it stands: ``my photos #2`` is the name of a folder, not ``my photos``.

    Raises:
        RecipeError: as `parse`, or there is a comment beside another value than a plain text.
    """
    value = parse(text, label)
    tokens = list(yaml.scan(text))
    gaps = itertools.pairwise(tokens)
    if not any("#" in text[one.end_mark.index : other.start_mark.index] for one, other in gaps):
        return value
    scalars = [token for token in tokens if isinstance(token, yaml.ScalarToken)]
    if len(tokens) > 2 + len(scalars) or not all(token.plain for token in scalars):
        raise RecipeError(f"{label}: '#' begins a comment there: leave it out, or quote the text")
    return text.strip()


def dump(value: Any) -> str:
    """YAML in the order of `value`; :func:`parse` gives it back, with tuples as lists.

    Texts without line breaks are in one line however long they are, so that paths can be searched
    for.
    """
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=math.inf,
    )
