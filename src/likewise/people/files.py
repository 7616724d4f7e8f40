"""What a study is, as files: ``people.json`` and ``pairs.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from likewise.config import json_text
from likewise.config.problems import describe
from likewise.records.atomic import write_atomically

STUDY, PAIRS, IMAGES, VOTES = "people.json", "pairs.jsonl", "images", "votes.sqlite"
SUFFIX = ".webp"

Check = Literal["same", "wrong"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


RecordT = TypeVar("RecordT", bound=_Record)


class Question(_Record):
    """One question about a pair of images: a name for tables, and what raters read."""

    name: str
    text: str


class Shown(_Record):
    """One image of a pair.

    Attributes:
        image: Name of its file, without folder and suffix; tells nothing.
        system: Who drew it.
        scores: Automatic scores by name, as in ``scores.parquet``; known ones only.
    """

    image: str
    system: str
    scores: Mapping[str, float] = Field(default_factory=dict)


class Pair(_Record):
    """Two images for the same task.

    Attributes:
        check: Why the answer is known: the images are the ``same``, or the second is obviously
            ``wrong``; None where it is not.
    """

    task: str
    subject: str
    category: str
    kind: str
    complexity: int
    prompt: str
    reference: str
    first: Shown
    second: Shown
    check: Check | None = None


class Settings(_Record):
    """``people.json``.

    Attributes:
        key: Secret part of the raters' address; who knows it can vote.
        benchmark: Where tasks and references come from.
        raters_per_pair: Votes that every pair gets on each question.
        pairs_per_rater: Of these pairs; checks come on top.
        least_checks: Share of checks that a rater has to get right to be counted.
        consent: What raters read before they begin.
        rewards: The recipe's rewards by name, with which exported preferences can be computed.
    """

    name: str
    key: str
    seed: int
    benchmark: str
    systems: Sequence[str]
    questions: Sequence[Question]
    raters_per_pair: int
    pairs_per_rater: int
    least_checks: float
    consent: str
    rewards: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    version: Literal[1] = 1


@dataclass(frozen=True)
class PeopleStudy:
    """A study's folder and what its files say."""

    folder: Path
    settings: Settings

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs, checks last; their indices in this list are their numbers."""
        file = self.folder / PAIRS
        lines = file.read_text(encoding="utf-8").splitlines()
        return [_parsed(Pair, line, f"{file}, line {n}") for n, line in enumerate(lines, 1)]

    @property
    def votes(self) -> Path:
        return self.folder / VOTES

    def image(self, name: str) -> Path:
        """File of an image."""
        return self.folder / IMAGES / f"{name}{SUFFIX}"


def open_study(folder: Path) -> PeopleStudy:
    """The study in `folder`; nothing is changed there.

    Raises:
        ValueError: there is none, or a file is damaged (the message names it).
    """
    file = folder / STUDY
    if not file.is_file():
        raise ValueError(
            f"{folder} is not a human study: it has no {STUDY} "
            "(`likewise study-people create` makes one)"
        )
    study = PeopleStudy(folder, _parsed(Settings, file.read_text(encoding="utf-8"), str(file)))
    for name in (PAIRS, VOTES):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is damaged: it has no {name}")
    return study


def write_settings(folder: Path, settings: Settings) -> None:
    """Write ``people.json``; last of all files, since it makes a study."""
    text = json.dumps(settings.model_dump(), indent=2, ensure_ascii=False)
    write_atomically(folder / STUDY, text + "\n")


def write_pairs(folder: Path, pairs: Sequence[Pair]) -> None:
    lines = [json.dumps(pair.model_dump(), ensure_ascii=False) for pair in pairs]
    write_atomically(folder / PAIRS, "".join(line + "\n" for line in lines))


def _parsed(kind: type[RecordT], text: str, where: str) -> RecordT:
    try:
        json_text.parse(text)
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(describe(error, kind, lambda _: where)) from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
