"""Threads that write at once share a commit, and neither a result nor a failure of another."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from likewise.people.committing import Run, SharedCommits


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    found = sqlite3.connect(tmp_path / "x", isolation_level=None, check_same_thread=False)
    found.execute("CREATE TABLE numbers (number INTEGER NOT NULL UNIQUE)")
    return found


def numbers(connection: sqlite3.Connection) -> list[int]:
    return sorted(row[0] for row in connection.execute("SELECT number FROM numbers"))


def insert(number: int | None, refuse: bool = False):
    def do(run: Run) -> int | None:
        run("INSERT INTO numbers VALUES (?)", (number,))
        if refuse:
            raise ValueError(f"{number} is refused")
        return number

    return do


def test_who_waits_is_written_by_the_next_commit(connection: sqlite3.Connection) -> None:
    commits = SharedCommits(connection)
    statements: list[str] = []
    may_end, has_begun = threading.Event(), threading.Event()

    def slow(run: Run) -> None:
        has_begun.set()
        assert may_end.wait(30)

    connection.set_trace_callback(statements.append)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(commits.write, slow)
        assert has_begun.wait(30)
        others = [pool.submit(commits.write, insert(number)) for number in range(8)]
        while len(commits._waiting) < 8:  # all of them wait for the disk
            threading.Event().wait(0.01)
        may_end.set()
        assert [one.result() for one in [first, *others]] == [None, *range(8)]
    assert statements.count("COMMIT") == 2 and numbers(connection) == list(range(8))


def test_what_raises_leaves_no_trace_and_touches_no_other(connection: sqlite3.Connection) -> None:
    commits = SharedCommits(connection)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(commits.write, insert(n, refuse=n % 3 == 0)) for n in range(30)]
    for number, job in enumerate(jobs):
        if number % 3:
            assert job.result() == number
        else:
            with pytest.raises(ValueError, match=f"{number} is refused"):
                job.result()
    assert numbers(connection) == [number for number in range(30) if number % 3]
    with pytest.raises(sqlite3.IntegrityError):
        commits.write(insert(1))  # is there
    assert commits.write(insert(99)) == 99


def test_a_commit_that_fails_is_told_to_all(connection: sqlite3.Connection, tmp_path: Path) -> None:
    commits = SharedCommits(connection)
    connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "x", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another process that never ends
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(commits.write, insert(number)) for number in range(4)]
    assert all(isinstance(job.exception(), sqlite3.OperationalError) for job in jobs)
    other.execute("ROLLBACK")
    assert numbers(connection) == [] and commits.write(insert(5)) == 5
