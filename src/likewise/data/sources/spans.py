"""Where the records of a JSON file lie, in bytes, so that one can be read without the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from likewise.config import json_text
from likewise.config.problems import describe
from likewise.data.sources.entries import DamageError

ModelT = TypeVar("ModelT", bound=BaseModel)
LONGEST_RECORD = 2**20  # bytes; thousands of names
Spans = np.ndarray  # int64 [N, 2]: first byte of each record, and the one after its last


def line_spans(file: Path) -> tuple[Spans, np.ndarray]:
    """Spans of all lines that are not blank; and their numbers, int64 [N], from 1."""
    spans, numbers, end = [], [], 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            start, end = end, end + len(line)
            if line.strip():
                spans.append((start, end))
                numbers.append(number)
    return np.array(spans, np.int64).reshape(-1, 2), np.array(numbers, np.int64)


def array_spans(file: Path, seen: Callable[[object], None]) -> Spans:
    """Spans of a JSON array's elements; where the array is damaged, the last one is all the rest.

    Args:
        seen: Called with every element; not with the damaged rest.

    Raises:
        ValueError: the file does not hold an array.
    """
    text = file.read_bytes().decode("latin-1")  # so that characters count as bytes
    decoder, spans = json.JSONDecoder(), []
    position = _skip(text, 0, "\xef\xbb\xbf")
    if text[position : position + 1] != "[":
        raise ValueError(f"{file} should be a JSON array")
    position = _skip(text, position + 1, "")
    while text[position : position + 1] != "]":
        try:
            element, end = decoder.raw_decode(text, position)
        except ValueError:
            spans.append((position, len(text)))
            break
        spans.append((position, end))
        seen(element)
        position = _skip(text, end, "")
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1, "")
        elif text[position : position + 1] != "]":
            spans.append((position, len(text)))
            break
    return np.array(spans, np.int64).reshape(-1, 2)


def _skip(text: str, position: int, mark: str) -> int:
    """The next position that is not whitespace, nor `mark` in front."""
    if mark and text.startswith(mark, position):
        position += len(mark)
    while text[position : position + 1] in (" ", "\n", "\r", "\t"):
        position += 1
    return position


def read_spans(file: Path, spans: Spans) -> Iterator[bytes]:
    """The records at `spans`, in that order."""
    with file.open("rb") as stream:
        for start, end in spans.tolist():
            stream.seek(start)
            yield stream.read(end - start)


def parse(record: bytes, model: type[ModelT]) -> ModelT:
    """A record as what it should be.

    Raises:
        DamageError: it is larger than any record has reason to be, not JSON, or not that.
    """
    if len(record) > LONGEST_RECORD:
        sizes = [f"{size / 2**20:.0f} MiB" for size in (len(record), LONGEST_RECORD)]
        raise DamageError("huge record", f"{sizes[0]} for one task; at most {sizes[1]} are read")
    try:
        return model.model_validate(json_text.parse(record))
    except ValidationError as error:
        wrong = describe(error, model, lambda _: "").replace("\n", "; ")
        raise DamageError("bad field", wrong) from None
    except ValueError as error:
        raise DamageError("bad JSON", str(error)) from None
