"""Who was shown what, and every vote: an SQLite file in WAL mode.

A vote is on the disk when `vote` returns (``synchronous=FULL``), and is never changed or removed:
one that was undone stays, with the reason. Every request carries a random word that is stored with
its vote, so that a request which is sent twice counts once. All calls may come from several threads
and several processes.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.people.committing import Run, SharedCommits
from likewise.people.design import Showing
from likewise.people.files import VOTES

IDLE = 30 * 60.0  # seconds without a vote after which what a rater has left may go to another
LONGEST = 3_600_000  # milliseconds
LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
CHOICES = ("left", "right", "tie")

SCHEMA = """
CREATE TABLE raters (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, secret TEXT NOT NULL UNIQUE,
    joined REAL NOT NULL, active REAL NOT NULL
);
CREATE TABLE showings (
    id INTEGER PRIMARY KEY, booklet INTEGER NOT NULL, position INTEGER NOT NULL,
    pair INTEGER NOT NULL, flipped INTEGER NOT NULL, rater INTEGER REFERENCES raters
);
CREATE INDEX showings_of_rater ON showings (rater, position);
CREATE INDEX showings_of_booklet ON showings (booklet);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY, showing INTEGER NOT NULL REFERENCES showings,
    rater INTEGER NOT NULL REFERENCES raters, question INTEGER NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie')),
    milliseconds INTEGER, nonce TEXT NOT NULL UNIQUE, cast_at REAL NOT NULL,
    void TEXT CHECK (void IN ('undone', 'moved'))
);
CREATE UNIQUE INDEX one_vote ON votes (showing, question) WHERE void IS NULL;
CREATE INDEX votes_of_rater ON votes (rater);
"""


@dataclass(frozen=True)
class RaterState:
    """How far a rater is.

    Attributes:
        showing: What is to be judged now; None when all is done.
        question: Number of the question.
        upcoming: The pair after this one, so that its images can be loaded; None after the last.
        last_vote: The vote that an undo would take back; None where there is none.
        done, total: Votes cast, and votes in all.
    """

    showing: int | None
    pair: int | None
    flipped: bool
    question: int
    upcoming: tuple[int, bool] | None
    last_vote: int | None
    done: int
    total: int


@dataclass(frozen=True)
class Vote:
    """What a rater sends.

    Attributes:
        choice: ``left``, ``right`` or ``tie``.
        milliseconds: From seeing the images to the vote; None if unknown.
        nonce: A random word of the sender's, the same whenever this vote is sent again.
    """

    showing: int
    question: int
    choice: str
    nonce: str
    milliseconds: int | None = None


class VoteRefusedError(ValueError):
    """A vote that cannot be taken; the rater's state says what can."""


def create_votes(folder: Path, booklets: Sequence[Sequence[Showing]]) -> None:
    """Make the file of a new study."""
    with _connected(folder / VOTES) as connection:
        connection.executescript(SCHEMA)
        rows = [
            (number, position, one.pair, one.flipped)
            for number, booklet in enumerate(booklets)
            for position, one in enumerate(booklet)
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO showings (booklet, position, pair, flipped) VALUES (?, ?, ?, ?)", rows
        )
        connection.execute("COMMIT")


class VoteStore:
    """The votes of one study, open for voting.

    Args:
        questions: How many there are on every pair.
        idle: Seconds; see `IDLE`.
    """

    def __init__(self, file: Path, questions: int, idle: float = IDLE) -> None:
        self.questions, self.idle = questions, idle
        self._lock = threading.Lock()
        self._reader = _connect(file)  # of its own: who reads does not wait for the disk
        self._commits = SharedCommits(_connect(file))

    def close(self) -> None:
        self._commits.close()
        with self._lock:
            self._reader.close()

    def join(self, secret: str) -> bool:
        """Make who knows `secret` a rater; false if nothing is left to judge.

        A booklet that nobody has is handed out; else what is left of one whose rater has been away
        for `idle` seconds. Who is a rater already stays the same one.
        """
        return self._commits.write(lambda run: self._join(run, _hashed(secret)))

    def _join(self, run: Run, secret: str) -> bool:
        if run("SELECT 1 FROM raters WHERE secret = ?", (secret,)).fetchone():
            return True
        booklet = run(
            "SELECT MIN(booklet) FROM showings WHERE rater IS NULL AND booklet NOT IN "
            "(SELECT booklet FROM showings WHERE rater IS NOT NULL)"
        ).fetchone()[0]
        left = self._left_behind(run) if booklet is None else []
        if booklet is None and not left:
            return False
        now = time.time()
        code = "".join(secrets.choice(LETTERS) for _ in range(8))
        rater = run(
            "INSERT INTO raters (code, secret, joined, active) VALUES (?, ?, ?, ?)",
            (code, secret, now, now),
        ).lastrowid
        if booklet is not None:
            run("UPDATE showings SET rater = ? WHERE booklet = ?", (rater, booklet))
        for showing in left:
            run("UPDATE votes SET void = 'moved' WHERE showing = ? AND void IS NULL", (showing,))
            run("UPDATE showings SET rater = ? WHERE id = ?", (rater, showing))
        return True

    def find(self, secret: str) -> tuple[int, str] | None:
        """Number and code of the rater with this secret."""
        with self._reading() as run:
            return run(
                "SELECT id, code FROM raters WHERE secret = ?", (_hashed(secret),)
            ).fetchone()

    def state(self, rater: int) -> RaterState:
        """Where the rater is."""
        with self._reading() as run:
            return self._state(run, rater)

    def vote(self, rater: int, vote: Vote) -> RaterState:
        """Store a vote, and say where the rater is then; one that was stored before counts once.

        Raises:
            VoteRefusedError: it is not about what the rater is to judge now. Nothing is stored.
        """
        return self._commits.write(lambda run: self._vote(run, rater, vote))

    def _vote(self, run: Run, rater: int, vote: Vote) -> RaterState:
        known = run("SELECT rater FROM votes WHERE nonce = ?", (vote.nonce,)).fetchone()
        if known:
            if known[0] != rater:
                raise VoteRefusedError("this request was made by another rater")
            return self._state(run, rater)
        now = self._state(run, rater)
        if (vote.showing, vote.question) != (now.showing, now.question):
            raise VoteRefusedError("this pair and question is not the one to be judged now")
        if vote.choice not in CHOICES:
            raise VoteRefusedError(f"a vote is one of {', '.join(CHOICES)}")
        spent = vote.milliseconds
        run(
            "INSERT INTO votes (showing, rater, question, choice, milliseconds, nonce, cast_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (vote.showing, rater, vote.question, vote.choice,
             None if spent is None else max(0, min(spent, LONGEST)), vote.nonce, time.time()),
        )  # fmt: skip
        run("UPDATE raters SET active = ? WHERE id = ?", (time.time(), rater))
        return self._state(run, rater)

    def undo(self, rater: int, vote: int) -> RaterState:
        """Take back the rater's last vote, and say where the rater is then.

        `vote` has to be the last one: a request that is sent twice takes back one vote.
        """
        return self._commits.write(lambda run: self._undo(run, rater, vote))

    def _undo(self, run: Run, rater: int, vote: int) -> RaterState:
        if self._state(run, rater).last_vote == vote:
            run("UPDATE votes SET void = 'undone' WHERE id = ?", (vote,))
        return self._state(run, rater)

    def progress(self) -> dict[str, int]:
        """Raters, votes that count, and votes in all when the study is complete."""
        with self._reading() as run:
            raters = run("SELECT COUNT(*) FROM raters").fetchone()[0]
            votes = run("SELECT COUNT(*) FROM votes WHERE void IS NULL").fetchone()[0]
            showings = run("SELECT COUNT(*) FROM showings").fetchone()[0]
        return {"raters": raters, "votes": votes, "total": showings * self.questions}

    def _state(self, run: Run, rater: int) -> RaterState:
        done, total = run(
            "SELECT (SELECT COUNT(*) FROM votes v JOIN showings s ON s.id = v.showing "
            "WHERE s.rater = ? AND v.void IS NULL), "
            "(SELECT COUNT(*) FROM showings WHERE rater = ?)",
            (rater, rater),
        ).fetchone()
        rows = run(
            "SELECT s.id, s.pair, s.flipped, COUNT(v.id) AS given FROM showings s "
            "LEFT JOIN votes v ON v.showing = s.id AND v.void IS NULL "
            "WHERE s.rater = ? GROUP BY s.id HAVING given < ? ORDER BY s.position, s.id LIMIT 2",
            (rater, self.questions),
        ).fetchall()
        last = run(
            "SELECT MAX(v.id) FROM votes v JOIN showings s ON s.id = v.showing "
            "WHERE v.rater = ? AND s.rater = ? AND v.void IS NULL",
            (rater, rater),
        ).fetchone()[0]
        total *= self.questions
        if not rows:
            return RaterState(None, None, False, 0, None, last, done, total)
        showing, pair, flipped, question = rows[0]
        upcoming = (rows[1][1], bool(rows[1][2])) if len(rows) > 1 else None
        return RaterState(showing, pair, bool(flipped), question, upcoming, last, done, total)

    def _left_behind(self, run: Run) -> list[int]:
        """Showings that the rater who has been away longest did not finish."""
        away = run(
            "SELECT r.id FROM raters r WHERE r.active < ? AND EXISTS (SELECT 1 FROM showings s "
            "WHERE s.rater = r.id AND (SELECT COUNT(*) FROM votes v WHERE v.showing = s.id "
            "AND v.void IS NULL) < ?) ORDER BY r.active LIMIT 1",
            (time.time() - self.idle, self.questions),
        ).fetchone()
        if away is None:
            return []
        rows = run(
            "SELECT s.id FROM showings s WHERE s.rater = ? AND (SELECT COUNT(*) FROM votes v "
            "WHERE v.showing = s.id AND v.void IS NULL) < ?",
            (away[0], self.questions),
        ).fetchall()
        return [row[0] for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[Run]:
        with self._lock:
            yield self._reader.execute


def read_votes(file: Path) -> list[tuple[Any, ...]]:
    """Rows as cast: rater's code, pair, flipped, question, choice, milliseconds, time, void."""
    with _connected(file) as connection:
        return connection.execute(
            "SELECT r.code, s.pair, s.flipped, v.question, v.choice, v.milliseconds, v.cast_at, "
            "v.void FROM votes v JOIN showings s ON s.id = v.showing "
            "JOIN raters r ON r.id = v.rater ORDER BY v.id"
        ).fetchall()


@contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    connection = _connect(file)
    try:
        yield connection
    finally:
        connection.close()


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
