"""A Hub for tests: folders as repositories, for the real `huggingface_hub` in this process."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, hf_api
from transformers.utils import hub as transformers_hub

CONVERTED = "refs/pr/1"


def commit(revision: str) -> str:
    """The commit that a branch or pull request stands at."""
    return hashlib.sha1(revision.encode()).hexdigest()


class Hub:
    """Attributes:
    root: Repositories are folders ``owner/name`` in it; ``owner/name@refs-pr-1`` is what the
        Hub's converter proposes.
    asked: Paths of files that were downloaded, with the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    def folder(self, repository: str, revision: str) -> Path:
        is_main = revision in ("main", commit("main"))
        return self.root / (repository if is_main else f"{repository}@refs-pr-1")


@contextmanager
def serving(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Let `huggingface_hub` in this process know no Hub but this one, and an own cache."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", address)
        for api in (hf_api.api, transformers_hub.hf_api()):  # made when they were imported
            patch.setattr(api, "endpoint", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                return self._answer(path.removeprefix("/api/models/"))
            repository, _, rest = path[1:].partition("/resolve/")
            for start in ("refs/pr/1/", f"{commit('main')}/", f"{commit(CONVERTED)}/", "main/"):
                if rest.startswith(start):
                    return self._file(repository, start[:-1], rest.removeprefix(start))
            return self._missing("EntryNotFound")

        def _file(self, repository: str, revision: str, inside: str) -> None:
            folder = hub.folder(repository, revision)
            if not folder.is_dir():
                return self._missing("RepoNotFound")
            if not (folder / inside).is_file():
                return self._missing("EntryNotFound")
            content = (folder / inside).read_bytes()
            if self.command == "GET":
                hub.asked.append(f"{repository}/{inside}")
            named = revision if len(revision) == 40 else commit(revision)
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": named})

        def _answer(self, asked: str) -> None:
            repository, owner = "/".join(asked.split("/")[:2]), "SFconvertbot"
            proposed = hub.folder(repository, CONVERTED)
            if asked.endswith("/discussions"):
                request = {"num": 1, "title": "Adding `safetensors` variant of this model"}
                request |= {"status": "open", "isPullRequest": True, "author": {"name": owner}}
                request |= {"createdAt": "2023-01-01T00:00:00.000Z"}
                request |= {"repo": {"name": repository, "type": "model"}}
                found = [{**request, "repoOwner": {"name": owner}}] if proposed.is_dir() else []
                self._json({"discussions": found, "count": len(found), "start": 0})
            elif "/commits/" in asked:
                ids = [commit("main")]
                ids = ids if asked.endswith("/main") else [commit(CONVERTED), *ids]
                fields = {
                    "authors": [],
                    "date": "2023-01-01T00:00:00.000Z",
                    "title": "",
                    "message": "",
                }
                self._json([{"id": one, **fields} for one in ids])
            else:
                self._repository(asked, repository)

        def _repository(self, asked: str, repository: str) -> None:
            folder = hub.folder(repository, "main")
            if not folder.is_dir():
                return self._missing("RepoNotFound")
            files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            names = [file.relative_to(folder).as_posix() for file in files]
            if "/tree/" in asked:
                entries = zip(names, files, strict=True)
                tree = [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": commit(name)}
                    for name, file in entries
                ]
                return self._json(tree)
            siblings = [{"rfilename": name} for name in names]
            self._json({"id": repository, "sha": commit("main"), "siblings": siblings})

        def _json(self, content: Any) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _missing(self, code: str) -> None:
            self._send(404, b"", {"X-Error-Code": code, "X-Repo-Commit": commit("main")})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
