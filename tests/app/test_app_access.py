"""What visitors must not get, and requests that must not do anything."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest
from rater import Rater
from serving import served
from typer.testing import CliRunner
from voting import EVIL, make_study

from likewise.app.catalogue import Catalogue
from likewise.app.server import create_app, find_token
from likewise.cli import app
from likewise.people.store import read_votes

TOKEN = "0123456789abcdefXYZ"


def raw(url: str, path: str) -> bytes:
    """The answer to a path exactly as given, which clients would tidy up."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        lines = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(lines.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_paths_lead_nowhere_else(tmp_path: Path) -> None:
    inside, secret = tmp_path / "in", tmp_path / "secret.webp"
    study = make_study(inside / "s")
    secret.write_bytes(b"SECRET")
    link = study.folder / "images" / f"{'a' * 20}.webp"
    link.symlink_to(secret)
    base = f"/rate/{study.settings.key}"
    tried = [
        f"{base}/image/{'a' * 20}",  # a link that leads out
        f"{base}/image/..%2f..%2f..%2fsecret",
        f"{base}/image/../people.json",
        f"{base}/image/..%2fpeople.json",
        f"{base}/image/%00",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        f"/static/{secret}",
        "/rate/../../secret.webp",
        "/rate/nothing/",
        "/studies/nothing/report",
        "//etc/passwd",
    ]
    with served(create_app([inside])) as url:
        for path in tried:
            answer = raw(url, path)
            assert answer.split()[1] in (b"404", b"400"), (path, answer[:200])
            assert b"SECRET" not in answer and b'"key"' not in answer and b"import" not in answer


def test_a_study_behind_a_link_is_not_found(tmp_path: Path) -> None:
    make_study(tmp_path / "elsewhere" / "s")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s").symlink_to(tmp_path / "elsewhere" / "s")
    (tmp_path / "in" / "half").mkdir()
    (tmp_path / "in" / "half" / "people.json").symlink_to(tmp_path / "elsewhere/s/people.json")
    assert Catalogue([tmp_path / "in"]).studies() == []
    assert len(Catalogue([tmp_path / "elsewhere"]).studies()) == 1


def test_all_but_the_raters_page_needs_the_token(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    with served(create_app([tmp_path], TOKEN)) as url, httpx2.Client(trust_env=False) as client:
        report = f"{url}/studies/{study.settings.key}/report"
        for address in (f"{url}/", f"{url}/studies", report, f"{url}/?token=wrong", f"{url}/x"):
            assert client.get(address).status_code == 401, address
        wrong = {"cookie": "likewise=wrong"}
        assert client.get(f"{url}/studies", headers=wrong).status_code == 401
        assert "good" not in client.get(f"{url}/studies").text
        rater = Rater(url, study)
        rater.join()
        assert rater.state["joined"]
        assert client.get(f"{url}/studies?token={TOKEN}").status_code == 303
        assert client.get(f"{url}/studies").status_code == 200  # by the cookie


@pytest.mark.parametrize(
    ("host", "given", "said"),
    [("0.0.0.0", None, "open to other machines"), ("127.0.0.1", "short", "16 letters"),
     ("::", None, "open"), ("127.0.0.1", "with space and ; signs", "16 letters")],
)  # fmt: skip
def test_tokens_are_asked_for_where_needed(
    host: str, given: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIKEWISE_APP_TOKEN", raising=False)
    with pytest.raises(ValueError, match=said):
        find_token(host, given)
    assert find_token("127.0.0.1", None) is None and find_token("0.0.0.0", TOKEN) == TOKEN
    monkeypatch.setenv("LIKEWISE_APP_TOKEN", TOKEN)
    assert find_token("0.0.0.0", None) == TOKEN


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, said in (
            ([str(tmp_path / "file")], "file is not a folder"),
            ([str(tmp_path / "nowhere")], "nowhere is not there"),
            ([str(tmp_path), "--port", str(port)], f"cannot listen at 127.0.0.1, port {port}"),
            ([str(tmp_path), "--host", "0.0.0.0"], "give a --token"),
        ):
            result = CliRunner().invoke(app, ["app", *words])
            assert result.exit_code == 2
            assert said in " ".join(result.output.split())


def test_pages_elsewhere_cannot_vote_or_read(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        body, address = rater.body(), f"{rater.base}vote"
        for headers in ({"origin": "http://evil.example"}, {"origin": "null"}):
            assert rater.client.post(address, json=body, headers=headers).status_code == 403
        form = rater.client.post(address, data={"showing": "1"})
        assert form.status_code == 403
        host = {"host": "evil.example"}  # DNS rebinding
        assert rater.client.get(f"{url}/studies", headers=host).status_code == 421
    assert read_votes(study.votes) == []


def test_votes_on_another_study_or_by_nobody_are_refused(tmp_path: Path) -> None:
    one, other = make_study(tmp_path / "a"), make_study(tmp_path / "b", seed=5)
    with served(create_app([tmp_path])) as url:
        rater, stranger = Rater(url, one), Rater(url, other)
        rater.join()
        stranger.join()
        # Cookies of one study say nothing in another, even if a client sends them there.
        stolen = httpx2.post(
            f"{stranger.base}vote", json=stranger.body(), trust_env=False,
            cookies={"rater": rater.client.cookies["rater"]},
        )  # fmt: skip
        assert stolen.status_code == 401
        foreign = rater.post("vote", rater.body(showing=10**6))
        assert foreign.status_code == 409
        nobody = Rater(url, one)
        assert nobody.post("vote", rater.body()).status_code == 401
    assert read_votes(one.votes) == read_votes(other.votes) == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'{"showing": 1}', b'"x"', b"\xff\xfe", b"9" * 4000,
        b'{"showing": 1e400, "question": 0, "choice": "left", "nonce": "aaaaaaaa"}',
        b'{"showing": true, "question": 0, "choice": "left", "nonce": "aaaaaaaa"}',
        b'{"showing": 1, "question": 0, "choice": "left", "nonce": "aaaaaaaa", "rater": 2}',
    ],
)  # fmt: skip
def test_malformed_votes_are_refused(body: bytes, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=2)
    with served(create_app([tmp_path])) as url:
        rater = Rater(url, study)
        rater.join()
        kind = {"content-type": "application/json"}
        answer = rater.client.post(f"{rater.base}vote", content=body, headers=kind)
        assert answer.status_code == 422
        large = rater.client.post(f"{rater.base}vote", content=b" " * 10_000, headers=kind)
        assert large.status_code == 413
    assert read_votes(study.votes) == []


def test_text_of_others_is_shown_as_text(tmp_path: Path) -> None:
    name = EVIL.replace("/", "_")
    study = make_study(tmp_path / name)
    with served(create_app([tmp_path])) as url:
        answer = httpx2.get(f"{url}/studies", trust_env=False)
        assert "<script>alert" not in answer.text and "&lt;script&gt;alert" in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        rater = Rater(url, study)
        rater.join()
        assert EVIL in rater.state["prompt"]  # JSON, which the page puts in as text


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with served(create_app([tmp_path])) as url:
        answer = httpx2.get(f"{url}/", trust_env=False)
        assert answer.status_code == 200 and "likewise train stickers" in answer.text


def test_a_damaged_study_hides_no_other(tmp_path: Path) -> None:
    make_study(tmp_path / "good")
    damaged = make_study(tmp_path / "damaged")
    (damaged.folder / "people.json").write_text("{")
    with served(create_app([tmp_path])) as url:
        page = httpx2.get(f"{url}/studies", trust_env=False).text
    assert "people.json" in page and page.count("Raters’ page") == 1
