"""DreamBench as tasks: 30 subjects × 25 prompts, from a folder in google/dreambooth's layout.

Prompts name the class only ("a dog in the jungle"): the templates' slot for a unique token stays
empty, as it does for every system that knows its subject from a reference image.

The prompts file does not say what a prompt asks for; the words around the class do:

    kind          where                                      complexity
    property      the class ends it: "a red dog"             1
    combination   after the class "wearing …" or             2: a thing and its look,
                  "in a … outfit"                            3 with a second thing ("… and …")
    scene         everything else                            1 per "in", "on", "with" or "and",
                                                             "in the background" not counted

So objects have 20 scene and 5 property prompts, live subjects 10 scene, 10 combination and 5
property prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from likewise.config.data import DreamBench
from likewise.data.sources.dreambench_files import (
    LIVE,
    OBJECT,
    PROMPTS,
    Sheet,
    fill,
    find_root,
    photo_files,
    read_sheet,
)
from likewise.data.sources.entries import DamageError, Entry, Problem, Stored
from likewise.images import open_image
from likewise.types import Task

LIVE_CLASSES = {"cat", "dog"}  # google/dreambooth: "9 … are live subjects (dogs and cats)"

_ACCESSORY = re.compile(r"^(wearing |in an? .*outfit)")
_PARTS = re.compile(r"\b(in|on|with|and)\b")


def dreambench_tasks(folder: Path) -> list[Task]:
    """One task per subject and prompt, subjects and prompts in the order of the prompts file.

    A task's id is ``<subject>-<NN>``, its category ``live`` or ``object``. Its reference is the
    photo that ``single_reference.json`` names, else the first by name; its other photos are the
    rest, by name. Each photo is loaded once: all tasks of a subject share it.

    Args:
        folder: google/dreambooth's ``dataset``, or what contains it; see ``dreambench_files``.

    Raises:
        FileNotFoundError: the folder, the prompts file, a subject's folder, or a photo is missing.
        ValueError: the prompts file lacks a list, or a file is damaged (the message names it).
    """
    root = find_root(folder)
    sheet = read_sheet(root)
    return [task for subject in sheet.classes for task in _subject_tasks(root, sheet, subject)]


def _subject_tasks(root: Path, sheet: Sheet, subject: str) -> Iterator[Task]:
    reference, *others = [open_image(file) for file in photo_files(root, subject)]
    for words in subject_words(sheet, subject):
        yield Task(**words, reference=reference, other_photos=tuple(others))


def subject_words(sheet: Sheet, subject: str) -> Iterator[dict[str, Any]]:
    """All fields but the images of each of a subject's tasks."""
    class_name = sheet.classes[subject]
    live = class_name in LIVE_CLASSES
    for number, template in enumerate(sheet.templates[LIVE if live else OBJECT]):
        kind, complexity = kind_and_complexity(template)
        yield {
            "id": f"{subject}-{number:02d}",
            "prompt": fill(template, class_name),
            "class_name": class_name,
            "subject": subject,
            "category": "live" if live else "object",
            "kind": kind,
            "complexity": complexity,
        }


class DreamBenchSource:
    """One row after another, for `data check`; training opens all at once.

    Implements :class:`likewise.data.sources.entries.Source`.

    Raises:
        ValueError, FileNotFoundError: as `dreambench_tasks`, but for images and their folders.
    """

    notes: Sequence[str] = ()

    def __init__(self, settings: DreamBench) -> None:
        self.root = find_root(Path(settings.path)).absolute()
        self.sheet = read_sheet(self.root)
        subjects = self.sheet.classes
        self.rows = [words for subject in subjects for words in subject_words(self.sheet, subject)]
        self.photos = {subject: self._photos(subject) for subject in subjects}

    def __len__(self) -> int:
        return len(self.rows)

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        for row, words in enumerate(self.rows[start:stop], start):
            where = f"{PROMPTS}, {words['id']}"
            photos = self.photos[words["subject"]]
            if isinstance(photos, DamageError):
                yield Problem(row, where, photos.what, photos.detail)
            else:
                yield Entry(row, where, **words, references=photos[:1], others=photos[1:])

    def _photos(self, subject: str) -> tuple[Stored, ...] | DamageError:
        try:
            files = photo_files(self.root, subject)
        except FileNotFoundError as error:
            return DamageError("missing image", str(error))
        return tuple(Stored(str(file.relative_to(self.root)), str(file)) for file in files)


def kind_and_complexity(template: str) -> tuple[str, int]:
    """What a template asks for, by the table above."""
    after_class = template.rpartition("}")[2].strip()
    if not after_class:
        return "property", 1
    if _ACCESSORY.match(after_class):
        return "combination", 3 if " and " in after_class else 2
    parts = _PARTS.findall(after_class.replace("in the background", ""))
    return "scene", max(1, min(len(parts), 3))
