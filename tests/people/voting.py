"""Human studies without humans: systems that draw squares, and raters that follow a rule."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from likewise.people.creating import Drawn, Wishes, create, read_questions
from likewise.people.files import Pair, PeopleStudy
from likewise.people.store import RaterState, Vote, VoteStore
from likewise.types import Task

EVIL = "<script>alert('x')</script> & \"a\" duck"


def make_task(number: int, subjects: int = 6) -> Task:
    subject = number % subjects
    return Task(
        id=f"t{number}",
        prompt=f"{EVIL} {number}",
        class_name="duck",
        subject=f"subject-{subject}",
        category=("bird", "tool")[subject % 2],
        kind="scene",
        complexity=1 + number % 3,
        reference=Image.new("RGB", (8, 8), (number, 9, 9)),
        constraints={"scene": f"scene-{number}"},
    )


def drawn(
    shade: int, tasks: Sequence[Task], scores: Callable[[int], Mapping[str, float]] | None = None
) -> list[Drawn]:
    """Squares of one colour per system and task."""

    def image(number: int) -> Image.Image:
        return Image.new("RGB", (12, 12), (shade, number, 7))

    return [
        Drawn(task, 0, lambda n=number: image(n), scores(number) if scores else {})
        for number, task in enumerate(tasks)
    ]


def make_study(
    folder: Path,
    tasks: int = 12,
    systems: Mapping[str, Sequence[Drawn]] | None = None,
    questions: str = "overall",
    **wishes: Any,
) -> PeopleStudy:
    """A study of two systems, `good` and `poor`, whose reward says what their names say."""
    todo = [make_task(number) for number in range(tasks)]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.5, (2, tasks))
    if systems is None:
        systems = {
            "good": drawn(200, todo, lambda n: {"reward/a": 0.5 + noise[0, n], "reward/b": 0.1}),
            "poor": drawn(50, todo, lambda n: {"reward/a": -0.5 + noise[1, n], "reward/b": 0.1}),
        }
    rewards = {"a": {"kind": "function", "target": "x:y", "side": "prompt"}}
    asked = read_questions(questions.split(","))
    return create(folder, systems, Wishes(questions=asked, rewards=rewards, **wishes))


def opened(study: PeopleStudy, **settings: Any) -> VoteStore:
    return VoteStore(study.votes, len(study.settings.questions), **settings)


def cast(
    store: VoteStore, rater: int, state: RaterState, choice: str, nonce: str = ""
) -> RaterState:
    assert state.showing is not None
    vote = Vote(state.showing, state.question, choice, nonce or secrets.token_hex(8), 1500)
    return store.vote(rater, vote)


def joined(store: VoteStore) -> int:
    """A new rater's number."""
    secret = secrets.token_hex(8)
    assert store.join(secret) and store.join(secret)  # the second time changes nothing
    known = store.find(secret)
    assert known is not None
    return known[0]


Rule = Callable[[Pair, int], float]  # pair, question → outcome: 1, 0.5 or 0


def side(outcome: float, flipped: bool) -> str:
    """What a rater presses who prefers the first image (1), the second (0), or neither."""
    return "tie" if outcome == 0.5 else "left" if (outcome == 1) != flipped else "right"


def vote_through(study: PeopleStudy, store: VoteStore, rule: Rule, raters: int) -> None:
    """So many raters, each from first to last pair."""
    for _ in range(raters):
        rater = joined(store)
        state = store.state(rater)
        while state.pair is not None:
            outcome = rule(study.pairs[state.pair], state.question)
            state = cast(store, rater, state, side(outcome, state.flipped))


def honest(chance: float, seed: int = 0) -> Rule:
    """Prefers the system `good` so often, and gets every check right."""
    rng = np.random.default_rng(seed)

    def rule(pair: Pair, question: int) -> float:
        if pair.check:
            return 0.5 if pair.check == "same" else 1.0
        likes_good = rng.random() < chance
        return float(likes_good == (pair.first.system == "good"))

    return rule


def brightness(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
    """A reward: 0 to 1; missing for black images."""
    return [(np.asarray(image).mean() / 255) or None for image in images]


def width(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    """A reward: pixels."""
    return [image.width for image in images]
