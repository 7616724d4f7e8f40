"""JSON in: strict where Python's reader keeps silent, as in `yaml_text`.

Of two equal keys Python keeps the last, and from ``"\\ud83d"`` it makes half of a character, which
no file name or tokenizer can hold. Both are errors here.
"""

from __future__ import annotations

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """The value that `text` holds.

    Raises:
        ValueError: it is not JSON, a key occurs twice, a text holds half of a surrogate pair, or
            lists are nested too deeply to be read.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
    if escape in text.lower():  # type: ignore[operator]
        check_text(value)
    return value


def check_text(value: Any) -> None:
    """Refuse what no file name, tokenizer or file in UTF-8 can hold.

    Raises:
        ValueError: a text in `value`, or in the lists and mappings there, holds half of a surrogate
            pair or a NUL.
    """
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{value!a:.80} holds half of a surrogate pair, or a NUL")
    elif isinstance(value, dict):
        check_text([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for one in value:
            check_text(one)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found
