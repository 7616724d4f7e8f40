"""Make a study's folder: choose pairs, prepare images, and lay out the booklets."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from likewise.people.design import booklets, choose_tasks, share_out
from likewise.people.files import (
    IMAGES,
    SUFFIX,
    Pair,
    PeopleStudy,
    Question,
    Settings,
    Shown,
    open_study,
    write_pairs,
    write_settings,
)
from likewise.people.store import create_votes
from likewise.records.atomic import write_atomically
from likewise.seeding import numpy_rng
from likewise.types import Task

QUESTIONS = {
    "identity": "Which image shows the same individual as the reference?",
    "prompt": "Which image does what the text says?",
    "overall": "Which image is the better answer to reference and text together?",
}
CONSENT = (
    "You will compare pairs of images made by computer programs. Your answers are stored with a "
    "random code and the time each took; nothing about you is. You may stop at any time."
)
SIDE = 768  # pixels; larger images are made smaller


@dataclass(frozen=True)
class Drawn:
    """An image of a system that may be shown.

    Attributes:
        number: Among the images of its task, from 0.
        open: Reads the image.
        scores: By name; known ones only.
    """

    task: Task
    number: int
    open: Callable[[], Image.Image]
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wishes:
    """What kind of study is wanted.

    Attributes:
        pairs: Pairs in all, shared out evenly over all two systems; None: all there are.
        pairs_per_rater: None: every rater sees all.
        checks: Share of pairs with a known answer that come on top; at least one of each kind,
            but for 0.
        least_checks: See `Settings`.
    """

    questions: Sequence[Question]
    raters_per_pair: int = 3
    pairs: int | None = None
    pairs_per_rater: int | None = None
    seed: int = 0
    checks: float = 0.1
    least_checks: float = 0.75
    side: int = SIDE
    consent: str = CONSENT
    benchmark: str = ""
    rewards: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def create(folder: Path, systems: Mapping[str, Sequence[Drawn]], wishes: Wishes) -> PeopleStudy:
    """Make a study of what systems drew, in a folder that is not there yet.

    Equal systems, wishes and seed give the same pairs in the same booklets; the names of images and
    the raters' address are new each time, since they must not be guessed.

    Args:
        systems: Images by the name of who drew them; two or more.

    Raises:
        ValueError: the folder exists, two systems share too few tasks, or a number does not fit.
        OSError: an image or the folder cannot be read or written.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another folder")
    if len(systems) < 2:
        raise ValueError("a study compares two systems or more")
    builder = _Builder(folder, systems, wishes)
    pairs = builder.pairs()
    per_rater = min(wishes.pairs_per_rater or len(pairs), len(pairs))
    checks = builder.checks(pairs, per_rater)
    layout = booklets(
        len(pairs), wishes.raters_per_pair, per_rater,
        range(len(pairs), len(pairs) + len(checks)), builder.rng,
    )  # fmt: skip
    (folder / IMAGES).mkdir(parents=True)
    everything = builder.named([*pairs, *checks])
    write_pairs(folder, everything)
    create_votes(folder, layout)
    settings = Settings(
        name=folder.name,
        key=builder.key,
        seed=wishes.seed,
        benchmark=wishes.benchmark,
        systems=list(systems),
        questions=list(wishes.questions),
        raters_per_pair=wishes.raters_per_pair,
        pairs_per_rater=per_rater,
        least_checks=wishes.least_checks,
        consent=wishes.consent,
        rewards={name: dict(one) for name, one in wishes.rewards.items()},
    )
    write_settings(folder, settings)
    return open_study(folder)


@dataclass(frozen=True)
class _Couple:
    """A pair before its images have names."""

    first: tuple[str, Drawn]
    second: tuple[str, Drawn]
    check: str | None = None


class _Builder:
    def __init__(
        self, folder: Path, systems: Mapping[str, Sequence[Drawn]], wishes: Wishes
    ) -> None:
        self.folder, self.systems, self.wishes = folder, systems, wishes
        self.key = secrets.token_urlsafe(12)
        self.rng = numpy_rng("people", wishes.seed)
        self.by_task = {
            name: {(one.task.id, one.number): one for one in images}
            for name, images in systems.items()
        }

    def pairs(self) -> list[_Couple]:
        """The pairs to be judged, in random order.

        Raises:
            ValueError: there are not so many.
        """
        names = list(self.systems)
        common = {
            couple: sorted(self.by_task[couple[0]].keys() & self.by_task[couple[1]].keys())
            for couple in share_out(0, names)
        }
        wanted = {couple: len(tasks) for couple, tasks in common.items()}
        if self.wishes.pairs is not None:
            wanted = share_out(self.wishes.pairs, names)
        found = []
        for (one, two), tasks in common.items():
            count = wanted[one, two]
            if not tasks or count > len(tasks):
                raise ValueError(
                    f"{one} and {two} both drew {len(tasks)} tasks, and {max(count, 1)} are wanted"
                )
            subjects = [self.by_task[one][task].task.subject for task in tasks]
            for index in choose_tasks(subjects, count, self.rng):
                images = [(name, self.by_task[name][tasks[index]]) for name in (one, two)]
                if self.rng.random() < 0.5:  # who is first says nothing either
                    images.reverse()
                found.append(_Couple(images[0], images[1]))
        if not found:
            raise ValueError("a study needs at least one pair")
        return [found[index] for index in self.rng.permutation(len(found))]

    def checks(self, pairs: Sequence[_Couple], per_rater: int) -> list[_Couple]:
        """Pairs with a known answer: by turns twice the same image, and one of another task."""
        if not self.wishes.checks:
            return []
        count = max(2, round(self.wishes.checks * per_rater))
        found = []
        for number in range(count):
            name, image = pairs[int(self.rng.integers(len(pairs)))].first
            if number % 2 == 0:
                found.append(_Couple((name, image), (name, image), "same"))
            else:
                found.append(_Couple((name, image), (name, self._unlike(name, image)), "wrong"))
        return found

    def _unlike(self, name: str, image: Drawn) -> Drawn:
        """An image of the same system that shows something else altogether."""
        task = image.task
        others = [one for one in self.systems[name] if one.task.subject != task.subject]
        for differs in (
            lambda one: one.category != task.category and not _shared(one, task),
            lambda one: one.category != task.category,
            lambda one: True,
        ):
            fitting = [one for one in others if differs(one.task)]
            if fitting:
                return fitting[int(self.rng.integers(len(fitting)))]
        raise ValueError(
            f"{name} drew one subject only, so that no image is obviously wrong: set checks to 0"
        )

    def named(self, couples: Sequence[_Couple]) -> list[Pair]:
        """Write all images, and say which pair shows which."""
        written: dict[str, None] = {}
        return [self._pair(couple, written) for couple in couples]

    def _pair(self, couple: _Couple, written: dict[str, None]) -> Pair:
        task = couple.first[1].task
        shown = []
        for name, image in (couple.first, couple.second):
            file = self._file(written, image.open, "image", name, image.task.id, image.number)
            shown.append(Shown(image=file, system=name, scores=dict(image.scores)))
        return Pair(
            task=task.id,
            subject=task.subject,
            category=task.category,
            kind=task.kind,
            complexity=task.complexity,
            prompt=task.prompt,
            reference=self._file(written, lambda: task.reference, "reference", task.id),
            first=shown[0],
            second=shown[1],
            check=couple.check,  # type: ignore[arg-type]
        )

    def _file(
        self, written: dict[str, None], read: Callable[[], Image.Image], *parts: str | int
    ) -> str:
        """Write an image unless it is there, without metadata; its name follows from the key."""
        text = "\x1f".join([self.key, *map(str, parts)])
        name = hashlib.sha256(text.encode()).hexdigest()[:20]
        if name not in written:
            image = read().convert("RGB")
            image.thumbnail((self.wishes.side, self.wishes.side), Image.Resampling.LANCZOS)
            content = io.BytesIO()
            image.save(content, "WEBP", lossless=True)
            write_atomically(self.folder / IMAGES / f"{name}{SUFFIX}", content.getvalue())
            written[name] = None
        return name


def _shared(one: Task, other: Task) -> bool:
    """Whether two tasks ask for anything in common."""
    return bool(set(one.constraints.items()) & set(other.constraints.items()))


def read_questions(words: Sequence[str]) -> list[Question]:
    """Questions from ``name`` (one of `QUESTIONS`) or ``name=Text?``.

    Raises:
        ValueError: a name is unknown and has no text, or occurs twice.
    """
    found: dict[str, Question] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not text and name not in QUESTIONS:
            known = ", ".join(QUESTIONS)
            raise ValueError(f"no question {name!r}: {known}, or one of your own as name=Text?")
        if name in found or not name:
            raise ValueError(f"the question {name!r} is asked twice, or has no name")
        found[name] = Question(name=name, text=text or QUESTIONS[name])
    return list(found.values())
