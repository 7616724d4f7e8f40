"""The playground: orders in line, progress and cancelling, uploads within bounds, and the nano."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from browsing import SIZES, Watched
from made_up import make_run
from PIL import Image
from serving import served
from test_app_browser import browser  # noqa: F401
from voting import make_task

from likewise.api.painting import Painter
from likewise.app.catalogue import Catalogue
from likewise.app.server import create_app
from likewise.builders.policies import build_policy
from likewise.config import load_recipe
from likewise.types import Task

STEPS = 4


class Stub:
    """A painter that draws grey squares, when it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.asked: list[tuple[Path | None, Task, int]] = []
        self.blended: list[tuple[Path | None, Path, float]] = []

    def examples(self) -> Sequence[Task]:
        return [make_task(number) for number in range(3)]

    def draw(
        self,
        run: Path | None,
        task: Task,
        seed: int,
        strength: float,
        step: Callable[[int, int], None],
        second: Path | None = None,
        share: float = 0.0,
    ) -> tuple[Image.Image, dict[str, float]]:
        self.asked.append((run, task, seed))
        if second is not None:
            self.blended.append((run, second, share))
        for done in range(STEPS):
            step(done, STEPS)
            self.may_go_on.wait(30)
        if seed == 13:
            raise ValueError("no <b>luck</b>")
        return Image.new("RGB", (8, 8), "grey"), {"reward/prompt": 0.5}


def post(url: str, path: str, body: dict[str, Any]) -> httpx2.Response:
    return httpx2.post(f"{url}/playground/{path}", json=body, trust_env=False, timeout=60)


def ended(url: str, job: str) -> dict[str, Any]:
    """The job once it is neither waiting nor drawing."""
    while True:
        answer = httpx2.get(f"{url}/playground/jobs/{job}", trust_env=False, timeout=60)
        state = answer.json()
        if state["state"] not in ("waiting", "drawing"):
            return state
        time.sleep(0.05)


def order(**changes: Any) -> dict[str, Any]:
    prompt = make_task(0).prompt
    return {"prompt": prompt, "systems": ["untrained"], "seed": 3, "example": "t0", **changes}


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    content = io.BytesIO()
    image.save(content, kind)
    return base64.b64encode(content.getvalue()).decode()


def test_several_runs_draw_from_one_order(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    (run,) = Catalogue([tmp_path]).runs()
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:
        job = post(url, "draw", order(systems=["untrained", run.id])).json()
        state = ended(url, job["id"])
        assert (state["state"], len(state["images"])) == ("done", 2)
        assert state["images"][0]["scores"] == {"reward/prompt": 0.5}
        image = httpx2.get(url + state["images"][1]["image"], trust_env=False)
        assert image.headers["content-type"] == "image/png"
    assert [asked[0] for asked in painter.asked] == [None, run.path]
    assert all(task.constraints and seed == 3 for _, task, seed in painter.asked)


def lean(folder: Path, identity: float, prompt: float) -> Path:
    """A run whose evaluators changed by so much."""
    run = make_run(folder)
    change = {"eval/evaluator/identity": 0.5 + identity, "eval/evaluator/prompt": 0.5 + prompt}
    run.append_metrics({"iteration": 9, **change})
    return folder


def test_weights_between_two_adapters_are_drawn(tmp_path: Path) -> None:
    for name, changes in {"both": (0.1, 0.1), "p": (-0.1, 0.3), "i": (0.2, -0.1)}.items():
        lean(tmp_path / name, *changes)
    make_run(tmp_path / "damaged").path.joinpath("metrics.jsonl").write_text("nonsense\n" * 2)
    lora = tmp_path / "exported" / "pytorch_lora_weights.safetensors"
    lora.parent.mkdir()
    lora.touch()
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:
        answer = httpx2.get(f"{url}/playground/adapters", trust_env=False, timeout=60)
        rows = {row["label"]: row for row in answer.json()}
        assert list(rows) == ["i", "both", "damaged", "exported", "p"]  # by leaning
        assert rows["p"]["change"] == {
            "identity": pytest.approx(-0.1), "prompt": pytest.approx(0.3)
        }  # fmt: skip
        assert rows["damaged"]["change"] is rows["exported"]["change"] is None
        blend = {"first": rows["i"]["id"], "second": rows["p"]["id"], "share": 0.25}
        state = ended(url, post(url, "draw", order(systems=[], blend=blend)).json()["id"])
        assert [one["label"] for one in state["images"]] == ["i 0.75 + p 0.25"]
        for change, code in (
            ({"share": 1.5}, 422),
            ({"second": blend["first"]}, 422),
            ({"second": "untrained"}, 422),
            ({"second": "nothing"}, 404),
        ):
            wrong = {**blend, **change}
            assert post(url, "draw", order(systems=[], blend=wrong)).status_code == code
    assert painter.blended == [(tmp_path / "i", tmp_path / "p", 0.25)]


def test_another_prompt_is_another_task(tmp_path: Path) -> None:
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:
        ended(url, post(url, "draw", order(prompt="a blue duck")).json()["id"])
    (asked,) = painter.asked
    assert asked[1].prompt == "a blue duck" and not asked[1].constraints


def test_a_job_is_cancelled_and_a_failure_is_said(tmp_path: Path) -> None:
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:
        painter.may_go_on.clear()
        job, waiting = (post(url, "draw", order()).json()["id"] for _ in range(2))
        for one in (job, waiting):
            post(url, f"jobs/{one}/cancel", {})
        painter.may_go_on.set()
        assert ended(url, job)["state"] == ended(url, waiting)["state"] == "cancelled"
        assert len(painter.asked) == 1  # who only waited was not drawn
        failed = ended(url, post(url, "draw", order(seed=13)).json()["id"])
        assert (failed["state"], failed["problem"]) == ("failed", "no <b>luck</b>")
        assert ended(url, post(url, "draw", order()).json()["id"])["state"] == "done"


def test_a_full_line_is_refused(tmp_path: Path) -> None:
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:
        painter.may_go_on.clear()
        codes = [post(url, "draw", order()).status_code for _ in range(12)]
        painter.may_go_on.set()
    assert codes[0] == 202 and codes[-1] == 503


def test_uploads_are_read_within_bounds(tmp_path: Path) -> None:
    painter = Stub()
    with served(create_app([tmp_path], painter=painter)) as url:

        def upload(content: str) -> int:
            asked = {"prompt": "a duck", "systems": ["untrained"], "upload": content}
            return post(url, "draw", asked).status_code

        good = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
        job = post(url, "draw", {"prompt": "x", "systems": ["untrained"], "upload": encoded(good)})
        ended(url, job.json()["id"])
        assert painter.asked[0][1].reference.getpixel((0, 0)) == (255, 255, 255)  # on white
        assert upload(encoded(Image.new("L", (5000, 5000)))) == 413  # few bytes, many pixels
        assert upload("A" * (13 * 2**20)) == 413
        assert upload("not base64!") == upload(base64.b64encode(b"%!PS nothing").decode()) == 422
        assert upload(encoded(good)[:60]) == 422  # cut off
        for wrong in ({"example": "nothing"}, {"systems": ["nothing"]}):
            assert post(url, "draw", order(**wrong)).status_code == 404
        for wrong in (
            {"upload": encoded(good)},
            {"systems": []},
            {"prompt": ""},
            {"seed": -1},
            {"strength": 9.0},
        ):
            assert post(url, "draw", order(**wrong)).status_code == 422


@pytest.mark.parametrize("size", SIZES)
def test_an_image_appears_in_the_browser(
    size: str,
    browser: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    lean(tmp_path / "p", -0.1, 0.3)
    lean(tmp_path / "i", 0.1, 0.0)
    with served(create_app([tmp_path], painter=Stub())) as url:
        watched = Watched(browser, size)
        page = watched.page
        page.goto(f"{url}/playground")
        page.wait_for_function("() => document.getElementById('reference').naturalWidth")
        page.locator("#draw").click()
        page.locator("#drawn img").wait_for()
        page.locator("#said", has_text="Done").wait_for()
        assert page.locator("#drawn img").count() == 1 and watched.fits()
        assert page.locator("#first option:checked").inner_text() == "i"
        page.locator("#share").fill("0.7")  # draws again, with both
        page.locator("#drawn figcaption", has_text="i 0.30 + p 0.70").wait_for()
        page.locator("#said", has_text="Done").wait_for()
        assert watched.fits()
        watched.context.close()
    assert watched.complaints == []


def test_the_nano_draws_and_is_scored() -> None:
    painter, steps = Painter("cpu"), []
    task = painter.examples()[0]
    image, scores = painter.draw(
        None, task, 0, 1.0, lambda done, total: steps.append((done, total))
    )
    again, _ = painter.draw(None, task, 0, 1.0, lambda done, total: None)
    other, _ = painter.draw(None, task, 1, 1.0, lambda done, total: None)
    assert image.size == (64, 64) and image.tobytes() == again.tobytes() != other.tobytes()
    assert {"prompt", "identity", "evaluator/prompt", "evaluator/identity"} <= scores.keys()
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] == len(steps) - 1
    assert scores["evaluator/identity"] > 0.3

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        painter.draw(None, task, 0, 1.0, stop)


@pytest.fixture
def adapters(tmp_path: Path) -> list[Path]:
    """Two LoRAs of the nano model, which change it at random."""
    recipe, folders = load_recipe("stickers"), [tmp_path / name for name in ("a", "b")]
    for seed, folder in enumerate(folders):
        policy = build_policy(recipe, torch.device("cpu"))
        torch.manual_seed(seed)
        for parameter in policy.trainable_parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
        policy.save_adapter(folder)
    return folders


def test_the_nano_draws_between_two_adapters(adapters: list[Path]) -> None:
    painter = Painter("cpu")
    task = painter.examples()[0]

    def draw(run: Path | None, strength: float = 1.0, **more: Any) -> bytes:
        image, _ = painter.draw(run, task, 0, strength, lambda done, total: None, **more)
        return image.tobytes()

    first, second = adapters
    ends = [draw(first), draw(second)]
    assert [draw(first, second=second, share=share) for share in (0.0, 1.0)] == ends
    middle = draw(first, second=second, share=0.5)
    assert middle not in ends and ends[0] != ends[1]
    assert draw(first, 0.0, second=second, share=0.5) == draw(None)
    assert len(painter._models) == 4  # small ones stay
