"""Votes with what they are about, and which raters they can be believed of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from likewise.people.files import Check, Pair, PeopleStudy
from likewise.people.store import read_votes


@dataclass(frozen=True)
class Ballot:
    """One vote that counts.

    Attributes:
        rater: Public code.
        pair: Number of the pair.
        question: Its name.
        outcome: 1 where the pair's first image was preferred, 0 where its second was, 0.5: a tie.
        side: ``left``, ``right`` or ``tie``, as it was seen.
        seconds: From seeing the images to the vote; None if unknown.
        cast_at: Seconds since 1970.
    """

    rater: str
    pair: int
    question: str
    outcome: float
    side: str
    seconds: float | None
    cast_at: float


@dataclass(frozen=True)
class Rater:
    """What the checks say of a rater.

    Attributes:
        votes: On pairs whose answer is not known.
        checks, right: Votes on checks, and how many of them were right.
        counted: Whether the rater's votes are used.
        seconds: Median per vote; None if unknown.
        left: Share of decided votes for the image on the left.
        ties: Share of all votes.
    """

    code: str
    votes: int
    checks: int
    right: int
    counted: bool
    seconds: float | None
    left: float | None
    ties: float


def read_ballots(study: PeopleStudy) -> tuple[list[Ballot], int]:
    """Votes in the order in which they were cast, and how many were undone or moved."""
    found, void = [], 0
    for code, pair, flipped, question, choice, milliseconds, cast_at, why in read_votes(
        study.votes
    ):
        if why is not None:
            void += 1
            continue
        first = "right" if flipped else "left"
        outcome = 0.5 if choice == "tie" else float(choice == first)
        seconds = None if milliseconds is None else milliseconds / 1000
        name = study.settings.questions[question].name
        found.append(Ballot(code, pair, name, outcome, choice, seconds, cast_at))
    return found, void


def is_right(outcome: float, check: Check) -> bool:
    """Whether a vote on a check is right: a tie between equals, or not for what is wrong."""
    return outcome == (0.5 if check == "same" else 1)


def judge_raters(
    ballots: Iterable[Ballot], pairs: Sequence[Pair], least_checks: float
) -> list[Rater]:
    """All raters in the order of their first vote.

    A rater counts whose share of right answers to checks is `least_checks` or more; so does one who
    has not come to a check yet.
    """
    own: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        own.setdefault(ballot.rater, []).append(ballot)
    return [_judged(code, votes, pairs, least_checks) for code, votes in own.items()]


def _judged(
    code: str, votes: Sequence[Ballot], pairs: Sequence[Pair], least_checks: float
) -> Rater:
    known = [(vote, check) for vote in votes if (check := pairs[vote.pair].check)]
    right = sum(is_right(vote.outcome, check) for vote, check in known)
    decided = [vote for vote in votes if vote.side != "tie"]
    times = [vote.seconds for vote in votes if vote.seconds is not None]
    return Rater(
        code=code,
        votes=len(votes) - len(known),
        checks=len(known),
        right=right,
        counted=right >= least_checks * len(known),
        seconds=median(times) if times else None,
        left=sum(v.side == "left" for v in decided) / len(decided) if decided else None,
        ties=1 - len(decided) / len(votes),
    )
