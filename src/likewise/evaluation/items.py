"""Images to be scored, each with its task: what a system drew, or the benchmark's own photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from likewise.config.problems import nearest
from likewise.evaluation.manifest import MANIFEST, ManifestError, Row, read_manifest
from likewise.images import open_image
from likewise.types import Task


@dataclass(frozen=True)
class Item:
    """An image to be scored, and the task that it is an answer to.

    Attributes:
        file: Its name in tables, relative to `folder`.
        task: Of the benchmark.
        number: Among the images of its task, from 0.
        folder: Where the file is; None for a photo of the benchmark itself.
        photo: Index of the image in ``task.photos`` if it is one of them, and so must not be
            compared with itself; None for what a system drew.
        seed: Of the image, if known.
    """

    file: str
    task: Task
    number: int
    folder: Path | None = None
    photo: int | None = None
    seed: int | None = None

    def image(self) -> Image.Image:
        """The image, read now: RGB, upright, on white.

        Raises:
            ValueError: the file is absent, or not an image (the message names it).
        """
        if self.photo is not None:
            return self.task.photos[self.photo]
        return open_image(Path(self.folder or "", self.file))


def real_items(tasks: Iterable[Task]) -> list[Item]:
    """Every photo of every subject as an image to be scored: how alike real photos are.

    Their tasks are ``<subject>-real``, one per subject, without a prompt: kind and complexity say
    nothing there.
    """
    of_subjects = {task.subject: task for task in tasks}
    return [
        Item(f"{subject}/{number:02d}", _real(task), number, photo=number)
        for subject, task in of_subjects.items()
        for number in range(len(task.photos))
    ]


def _real(task: Task) -> Task:
    return replace(task, id=f"{task.subject}-real", prompt="", constraints={})


def read_items(folder: Path, tasks: Sequence[Task]) -> list[Item]:
    """The images of the system in `folder`, in the order of its manifest; all files are there.

    Raises:
        ManifestError: the manifest is wrong (:func:`read_manifest`), does not fit the benchmark
            (:func:`match_rows`), or names a file that is absent.
    """
    file = folder / MANIFEST
    items = match_rows(read_manifest(file), tasks, folder)
    absent = [item.file for item in items if not (folder / item.file).is_file()]
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise ManifestError(
            f"{file} names {absent[0]}{more}, but there is no such file in {folder}"
        )
    return items


def match_rows(rows: Sequence[Row], tasks: Sequence[Task], folder: Path) -> list[Item]:
    """An item per row of the manifest in `folder`; the files need not exist yet.

    Raises:
        ManifestError: a row's subject, task or prompt is not in the benchmark, or fits several
            tasks; or two rows have the same task and number.
    """
    file, of_subject = folder / MANIFEST, _by_subject(tasks)
    seen: Counter[str] = Counter()
    items: dict[tuple[str, int], Item] = {}
    for position, row in enumerate(rows, 1):
        where = f"{file}, image {position} ({row.file})"
        task = _find_task(row, of_subject, where)
        number = seen[task.id] if row.number is None else row.number
        seen[task.id] += 1
        if (task.id, number) in items:
            first = items[task.id, number].file
            raise ManifestError(f"{where}: task {task.id} has an image {number} already: {first}")
        items[task.id, number] = Item(row.file, task, number, folder, seed=row.seed)
    return list(items.values())


def _by_subject(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(task.subject, []).append(task)
    return found


def _find_task(row: Row, of_subject: dict[str, list[Task]], where: str) -> Task:
    """The task that a row names; its fields must all agree with it."""
    if row.subject not in of_subject:
        hint = nearest(row.subject, of_subject)
        raise ManifestError(f"{where}: subject {row.subject!r} is not in the benchmark; {hint}")
    own = of_subject[row.subject]
    if row.task is not None:
        own = [task for task in own if task.id == row.task]
        if not own:
            hint = nearest(row.task, [task.id for task in of_subject[row.subject]])
            raise ManifestError(
                f"{where}: task {row.task!r} is not in the benchmark for {row.subject!r}; {hint}"
            )
    fitting = [task for task in own if task.prompt == row.prompt]
    if not fitting:
        hint = nearest(row.prompt, [task.prompt for task in own])
        raise ManifestError(
            f"{where}: prompt {row.prompt!r} is not in the benchmark for "
            f"{row.task or row.subject!r}; {hint}"
        )
    if len(fitting) > 1:
        ids = ", ".join(task.id for task in fitting)
        raise ManifestError(f"{where}: subject and prompt fit several tasks: say which, {ids}")
    return fitting[0]
