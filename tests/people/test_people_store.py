"""Votes: none lost, none doubled, none for what is not the rater's to judge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from voting import cast, honest, joined, make_study, opened, vote_through

from likewise.people.store import Vote, VoteRefusedError, read_votes

HELPERS = Path(__file__).parent
VOTER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from voting import cast, joined, opened
from likewise.people.files import open_study
study = open_study(Path(sys.argv[1]))
store = opened(study)
rater = joined(store)
state = store.state(rater)
while state.showing is not None:
    state = cast(store, rater, state, "left")
    print(state.done, flush=True)
"""


def test_a_rater_votes_from_first_to_last(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall", raters_per_pair=1)
    store = opened(study)
    vote_through(study, store, honest(1.0), 1)
    assert not store.join("another")  # nothing is left
    votes = read_votes(study.votes)
    assert len(votes) == 2 * (12 + 2) == store.progress()["votes"] == store.progress()["total"]
    assert {row[7] for row in votes} == {None}


def test_a_request_that_is_sent_twice_counts_once(tmp_path: Path) -> None:
    store = opened(make_study(tmp_path / "s"))
    rater = joined(store)
    state = store.state(rater)
    after = cast(store, rater, state, "left", "same-word")
    again = store.vote(rater, Vote(state.showing or 0, state.question, "right", "same-word"))
    assert again == after and after.done == 1


def test_what_is_not_to_be_judged_now_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall", raters_per_pair=2)
    store = opened(study)
    one, two = joined(store), joined(store)
    mine, theirs = store.state(one), store.state(two)
    assert mine.showing and theirs.showing
    for showing, question in ((theirs.showing, 0), (mine.showing, 1), (10**6, 0), (-1, 0)):
        with pytest.raises(VoteRefusedError):
            store.vote(one, Vote(showing, question, "left", f"{showing}/{question}"))
    with pytest.raises(VoteRefusedError):
        store.vote(one, Vote(mine.showing, 0, "both", "x"))
    cast(store, two, theirs, "left", "word")
    with pytest.raises(VoteRefusedError, match="another rater"):
        store.vote(one, Vote(mine.showing, 0, "left", "word"))
    assert store.state(one) == mine


def test_undo_takes_back_one_vote_however_often_it_is_sent(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    store = opened(study)
    rater = joined(store)
    first = store.state(rater)
    second = cast(store, rater, first, "left")
    third = cast(store, rater, second, "right")
    assert third.last_vote
    back = store.undo(rater, third.last_vote)
    assert store.undo(rater, third.last_vote) == back
    assert (back.showing, back.done) == (second.showing, 1)
    cast(store, rater, back, "tie")
    kept = [row[4] for row in read_votes(study.votes) if row[7] is None]
    assert kept == ["left", "tie"] and len(read_votes(study.votes)) == 3
    other = joined(store)
    assert store.undo(other, store.state(rater).last_vote or 0).done == 0
    assert store.state(rater).done == 2


def test_two_tabs_of_one_rater_lose_and_double_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    store, other_tab = opened(study), opened(study)
    rater = joined(store)
    state = store.state(rater)
    cast(store, rater, state, "left")
    with pytest.raises(VoteRefusedError):
        cast(other_tab, rater, state, "right")
    next_state = other_tab.state(rater)
    assert cast(other_tab, rater, next_state, "right").done == 2
    assert [row[4] for row in read_votes(study.votes)] == ["left", "right"]


def test_what_a_rater_leaves_goes_to_another(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall", raters_per_pair=1, checks=0)
    store = opened(study, idle=0.05)
    away = joined(store)
    state = store.state(away)
    for _ in range(5):  # two pairs, and half of a third
        state = cast(store, away, state, "left")
    time.sleep(0.1)
    vote_through(study, store, honest(1.0), 1)
    with pytest.raises(VoteRefusedError):  # who comes back has nothing left to judge
        cast(store, away, state, "left")
    assert store.state(away).showing is None
    kept = Counter(row[1] for row in read_votes(study.votes) if row[7] is None)
    assert kept == dict.fromkeys(range(12), 2)
    assert [row[7] for row in read_votes(study.votes)].count("moved") == 1


def test_a_kill_loses_no_vote_that_was_answered(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=60)
    process = subprocess.Popen(
        [sys.executable, "-c", VOTER, str(study.folder), str(HELPERS)], stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout
    answered = 0
    for _ in range(20):
        answered = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    answered = max([answered, *map(int, rest)])
    votes = read_votes(study.votes)
    assert answered <= len(votes) <= answered + 1
    assert len({row[1] for row in votes}) == len(votes)
