"""The raters' page over HTTP: blinded, resumed, balanced, and safe against kills and repeats."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from rater import LEAKS, Rater
from serving import free_port, served, wait_for
from voting import make_study

from likewise.app.server import create_app
from likewise.people.store import read_votes


def test_a_study_is_voted_through_and_reported(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall", raters_per_pair=1, pairs=5)
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.open()
        assert rater.state == {"joined": False}
        rater.join()
        assert rater.state["total"] == 2 * (5 + 2) and rater.state["done"] == 0
        rater.vote("right")
        again = Rater(url, study, cookies=rater.client.cookies)  # after a reload
        again.open()
        assert again.state == rater.state
        again.finish()
        assert again.state["done"] == 14 and again.state["code"]
        late = Rater(url, study)
        late.join()
        assert late.state == {"joined": False, "full": True}
        listed = httpx2.get(f"{url}/studies", trust_env=False).text
        assert "14 of 14 votes by 1 raters" in listed
        page = httpx2.get(f"{url}/studies/{study.settings.key}/report", trust_env=False, timeout=60)
        assert page.status_code == 200 and "Krippendorff" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert len(read_votes(study.votes)) == 14


def test_raters_are_told_nothing_that_unblinds(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", raters_per_pair=1)
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        while rater.state["showing"] is not None:
            hidden = ("text", "prompt", "code")
            told = {key: value for key, value in rater.state.items() if key not in hidden}
            assert not LEAKS.search(json.dumps(told)), told
            image = rater.client.get(f"{rater.base}image/{rater.state['left']}")
            assert image.headers["content-type"] == "image/webp"
            assert not LEAKS.search(str(image.headers))
            rater.vote()


def test_undo_goes_back_one_answer(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        first = rater.state
        rater.vote()
        back = rater.post("undo", {"vote": rater.state["undo"]}).json()
        assert back == first
        assert rater.post("undo", {"vote": 10**9}).json() == first


def test_a_repeat_counts_once_and_another_tab_is_put_right(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        body = rater.body()
        answers = [rater.post("vote", body) for _ in range(3)]
        assert {one.status_code for one in answers} == {200}
        assert answers[0].json() == answers[2].json()
        old_tab = rater.post("vote", {**body, "nonce": "another-word", "choice": "right"})
        assert old_tab.status_code == 409 and old_tab.json()["done"] == 1
        assert old_tab.json()["showing"] == answers[0].json()["showing"]
    assert [row[4] for row in read_votes(study.votes)] == ["left"]


def test_two_tabs_before_the_first_answer_are_one_rater(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        other = Rater(url, study, cookies=rater.client.cookies)
        other.join()
        assert other.state == rater.state


def test_twenty_raters_vote_at_once_over_http(tmp_path: Path) -> None:
    """2,000 votes: every pair has as many, none is lost; the 95th percentile is printed."""
    study = make_study(tmp_path / "s", tasks=200, raters_per_pair=10, pairs_per_rater=100, checks=0)
    seconds: list[float] = []
    with served(create_app([tmp_path])) as url:

        def rate(number: int) -> None:
            rater = Rater(url, study)
            rater.join()
            while rater.state["showing"] is not None:
                begin = time.perf_counter()
                rater.vote("left" if number % 2 else "right")
                seconds.append(time.perf_counter() - begin)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(rate, range(20)))
    votes = read_votes(study.votes)
    assert len(votes) == len(seconds) == 2000
    assert Counter(Counter(row[1] for row in votes).values()) == {10: 200}
    assert len({(row[0], row[1]) for row in votes}) == 2000
    print(f"p95 {1000 * float(np.quantile(seconds, 0.95)):.0f} ms")


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """`likewise app` as a process of its own, once it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "likewise", "app", str(folder), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip

    def answers() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/static/app.css", trust_env=False).is_success
        except httpx2.TransportError:
            assert process.poll() is None, "the server ended"
            return False

    wait_for(answers)
    return process


def test_a_killed_server_loses_and_doubles_no_vote(tmp_path: Path) -> None:
    study, port = make_study(tmp_path / "s", tasks=30), free_port()
    process = serve(tmp_path, port)
    rater = Rater(f"http://127.0.0.1:{port}", study)
    rater.join()
    for _ in range(10):
        rater.vote()
    process.send_signal(signal.SIGKILL)
    process.wait()
    pending = rater.body()
    with pytest.raises(httpx2.TransportError):
        rater.post("vote", pending)
    process = serve(tmp_path, port)
    try:
        for _ in range(2):  # the page sends it again until it is answered
            assert rater.post("vote", pending).json()["done"] == 11
    finally:
        process.terminate()
        process.wait()
    assert len(read_votes(study.votes)) == 11
