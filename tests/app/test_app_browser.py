"""The app in a real browser: on a desktop by keyboard, on a phone by touch, and through a kill."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import SIZES, Watched, chromium
from made_up import EVIL, make_images, make_many_images, make_run, references
from serving import free_port, served
from test_app_rating import serve
from voting import make_study

from likewise.app.catalogue import Catalogue
from likewise.app.server import create_app
from likewise.people.store import read_votes


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def begin(watched: Watched, url: str, key: str) -> None:
    watched.page.goto(f"{url}/rate/{key}/")
    watched.page.locator("#begin").click()
    ready(watched)


def ready(watched: Watched, after: str | None = None) -> str | None:
    """Wait for a pair other than `after`, or for the end; which pair and question it is."""
    watched.page.wait_for_function(
        "old => !document.getElementById('end').hidden || (document.body.dataset.showing"
        " && document.body.dataset.showing !== old)",
        arg=after,
    )
    return watched.page.evaluate("document.body.dataset.showing || null")


def answer(watched: Watched, number: int) -> None:
    """By keyboard on a desktop, by touch on a phone."""
    now = watched.page.evaluate("document.body.dataset.showing")
    if watched.page.evaluate("matchMedia('(pointer: coarse)').matches"):
        watched.page.locator(("#left", "#right", "#tie")[number % 3]).tap()
    else:
        watched.page.keyboard.press(("ArrowLeft", "ArrowRight", "ArrowDown")[number % 3])
    ready(watched, now)


@pytest.mark.parametrize("size", SIZES)
def test_twenty_pairs_are_voted_through(size: str, browser: Any, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=20, raters_per_pair=1, checks=0)
    with served(create_app([tmp_path])) as url:
        watched = Watched(browser, size)
        begin(watched, url, study.settings.key)
        assert watched.fits()
        assert watched.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        for number in range(20):
            answer(watched, number)
        assert "All done" in watched.page.locator("#end-text").inner_text()
        watched.context.close()
    votes = read_votes(study.votes)
    assert Counter(row[4] for row in votes) == {"left": 7, "right": 7, "tie": 6}
    assert Counter(row[1] for row in votes) == dict.fromkeys(range(20), 1)
    assert all(row[5] is not None and row[5] >= 0 for row in votes)
    assert watched.complaints == []


def test_a_reload_and_an_undo_lose_nothing(browser: Any, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall")
    with served(create_app([tmp_path])) as url:
        watched = Watched(browser, "desktop")
        begin(watched, url, study.settings.key)
        for number in range(3):
            answer(watched, number)
        here = ready(watched)
        watched.page.reload()
        assert ready(watched) == here
        watched.page.keyboard.press("u")
        assert ready(watched, here) != here
        assert watched.page.locator("#count").inner_text() == "3 of 28"
        watched.context.close()
    assert [row[7] for row in read_votes(study.votes)] == [None, None, "undone"]


def test_text_of_others_does_not_run(browser: Any, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")  # whose prompts hold a script
    name = EVIL.replace("/", "_")
    make_run(tmp_path / name)
    make_images(tmp_path / name / "evaluation" / "e" / "after", 0.4, 1.0)
    (tmp_path / name / "evaluation" / "e" / "settings.json").write_text('{"benchmark": "made-up"}')
    with served(create_app([tmp_path], references=references)) as url:
        watched = Watched(browser, "desktop")
        watched.page.on("dialog", lambda dialog: watched.complaints.append("a script ran"))
        begin(watched, url, study.settings.key)
        assert "<script>" in watched.page.locator("#prompt").inner_text()
        for path in ("/studies", f"/studies/{study.settings.key}/report"):
            watched.page.goto(url + path)
        for path, shown in (("/runs", ".legend"), ("/gallery", ".sample")):
            watched.page.goto(url + path)
            watched.page.locator(shown).first.wait_for()
            assert name in watched.page.locator("#choice label").first.inner_text()
        watched.context.close()
    assert watched.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_a_server_is_killed_between_votes(size: str, browser: Any, tmp_path: Path) -> None:
    study, port = make_study(tmp_path / "s", tasks=8, raters_per_pair=1, checks=0), free_port()
    process = serve(tmp_path, port)
    watched = Watched(browser, size)
    try:
        begin(watched, f"http://127.0.0.1:{port}", study.settings.key)
        for number in range(3):
            answer(watched, number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = watched.page.evaluate("document.body.dataset.showing")
        watched.page.keyboard.press("ArrowLeft")
        watched.page.locator("#trouble").wait_for(state="visible")
        watched.page.keyboard.press("ArrowRight")  # is not an answer: one is on its way
        process = serve(tmp_path, port)
        ready(watched, now)
        watched.page.locator("#trouble").wait_for(state="hidden")
        for number in range(4):
            answer(watched, number)
        assert "All done: 8" in watched.page.locator("#end-text").inner_text()
    finally:
        watched.context.close()
        process.kill()
        process.wait()
    votes = read_votes(study.votes)
    assert [row[4] for row in votes] == ["left", "right", "tie", "left"] * 2
    assert Counter(row[1] for row in votes) == dict.fromkeys(range(8), 1)


@pytest.mark.parametrize("size", SIZES)
def test_a_curve_grows_while_the_page_is_open(size: str, browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    make_run(tmp_path / "two", "stickers-naive")
    with served(create_app([tmp_path])) as url:
        watched = Watched(browser, size)
        watched.page.goto(f"{url}/runs")
        curve = watched.page.locator("figure", has_text="Held-out evaluators")
        curve.wait_for()
        before = int(curve.get_attribute("data-points") or 0)
        run.append_metrics({"iteration": 4, "eval/evaluator/identity": 0.95, "quadrant/++": 0.3})
        watched.page.wait_for_function(
            "old => Number(document.querySelector('#charts figure').dataset.points) > old",
            arg=before,
        )
        assert "4 of" in watched.page.locator("#states").inner_text()
        watched.page.locator("#choice label").nth(1).click()  # the other run, in the same charts
        watched.page.locator(".legend", has_text="two").first.wait_for()
        assert watched.fits() and "run=" in watched.page.url
        watched.context.close()
    assert watched.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_the_gallery_filters_sorts_and_links(size: str, browser: Any, tmp_path: Path) -> None:
    make_images(tmp_path / "e" / "before", 0.4, 1.0)
    make_images(tmp_path / "e" / "after", 0.6, 0.0)
    (tmp_path / "e" / "settings.json").write_text('{"benchmark": "made-up"}')
    with served(create_app([tmp_path], references=references)) as url:
        watched = Watched(browser, size)
        page = watched.page
        page.goto(f"{url}/gallery")
        page.locator(".sample").first.wait_for()
        assert page.locator(".sample").count() == 4 and watched.fits()
        assert "<script>" in page.locator(".sample b").first.inner_text()
        page.locator("select[name=kind]").select_option("scene")
        assert page.locator(".sample").count() == 2
        page.locator("select[name=quadrant]").select_option("identity down, prompt up")
        assert page.locator(".sample").count() == 2  # after is listed first
        page.locator("select[name=quadrant]").select_option("both up")
        assert page.locator(".sample").count() == 0
        page.locator("select[name=quadrant]").select_option("")
        page.reload()
        page.locator(".sample").first.wait_for()
        assert page.locator(".sample").count() == 2  # the filter is in the address
        page.locator(".sample a").first.click()
        page.locator("#said", has_text="One sample").wait_for()
        assert page.locator(".sample").count() == 1
        shown = "() => [...document.images].every(one => one.complete && one.naturalWidth)"
        page.wait_for_function(shown)
        watched.context.close()
    assert watched.complaints == []


SCROLL = """
async () => {
  const found = { frames: [], long: 0, nodes: 0 };
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) found.long = Math.max(found.long, one.duration);
  }).observe({ type: "longtask" });
  const frame = () => new Promise(requestAnimationFrame);
  let before = await frame();
  while (scrollY + innerHeight < document.documentElement.scrollHeight - 1) {
    scrollBy(0, 400);
    const now = await frame();
    found.frames.push(now - before);
    before = now;
    found.nodes = Math.max(found.nodes, document.getElementsByTagName("*").length);
  }
  return found;
}
"""


@pytest.mark.parametrize("size", ["phone", pytest.param("desktop", marks=pytest.mark.slow)])
def test_750_samples_of_four_systems_scroll(size: str, browser: Any, tmp_path: Path) -> None:
    """Few of them are in the page at any time; how long frames took is printed."""
    for name in ("a", "b", "c", "d"):
        make_many_images(tmp_path / name, 750)
    systems = "&".join(f"system={one.id}" for one in Catalogue([tmp_path]).evaluations())
    with served(create_app([tmp_path], references=references)) as url:
        watched = Watched(browser, size)
        watched.page.goto(f"{url}/gallery?{systems}")
        watched.page.locator("#said", has_text="750 of 750").wait_for()
        found = watched.page.evaluate(SCROLL)
        last = watched.page.locator("[id='task-t749/0']")
        last.wait_for()
        assert last.locator("figure").count() == 5 and watched.fits()
        watched.context.close()
    assert found["nodes"] < 5000  # all of them would be 30,000
    frames = sorted(found["frames"])
    print(f"{len(frames)} frames, 95 % within {frames[int(0.95 * len(frames))]:.0f} ms; longest "
          f"task {found['long']:.0f} ms; {found['nodes']} nodes")  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_the_console_is_quiet(size: str, browser: Any, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with served(create_app([tmp_path])) as url, served(create_app([tmp_path / "empty"])) as empty:
        watched = Watched(browser, size)
        report = f"{url}/studies/{study.settings.key}/report"
        for address in (f"{url}/", f"{url}/studies", report, f"{empty}/"):
            watched.page.goto(address)
            assert watched.fits(), address
        watched.context.close()
    assert watched.complaints == []
