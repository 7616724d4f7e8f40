"""Images of a system: a folder with ``manifest.jsonl``, which says what each one shows.

One line per image: ``file`` (relative to the folder), ``subject`` and ``prompt``; ``task``, the
id in the benchmark, may be left out where subject and prompt name exactly one; ``number`` counts
the images of a task from 0, by default in order; ``seed`` is for the record. So the images of
any system can be scored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from likewise.config import json_text
from likewise.config.problems import describe
from likewise.records.atomic import write_atomically

MANIFEST = "manifest.jsonl"


class ManifestError(ValueError):
    """A manifest cannot be used; the message names file, line and field."""


class Row(BaseModel):
    """One line of a manifest: one image.

    Attributes:
        ALIASES: What other programs call a field → the field, for hints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ALIASES: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("text", "caption"), "prompt"),
        **dict.fromkeys(("file_name", "image", "image_path"), "file"),
    }

    file: str
    subject: str
    prompt: str
    task: str | None = None
    number: NonNegativeInt | None = None
    seed: int | None = None


def read_manifest(file: Path) -> list[Row]:
    """The rows of a manifest, in order; blank lines do not count.

    Raises:
        ManifestError: the file is absent or empty; or a line is not a JSON object, lacks a field
            or has an unknown one (the message has file, line, field and the nearest name).
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(
            f"there is no {file}: a folder of images needs one, with a line like "
            '{"file": "images/0.png", "subject": "dog", "prompt": "a dog in the snow"} per image'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ManifestError(f"{file} is empty: it needs one line per image")
    return [_row(line, f"{file}, line {number}") for number, line in lines]


def _row(line: str, where: str) -> Row:
    try:
        return Row.model_validate(json_text.parse(line))
    except ValidationError as error:
        raise ManifestError(describe(error, Row, lambda _: where)) from None
    except ValueError as error:
        raise ManifestError(f"{where}: not a JSON object: {error}") from None


def write_manifest(file: Path, rows: Iterable[Row]) -> None:
    """Write all rows at once: after a crash there is the whole file, or none."""
    lines = [json.dumps(row.model_dump(exclude_none=True), ensure_ascii=False) for row in rows]
    write_atomically(file, "".join(line + "\n" for line in lines))
