"""The report of a made-up study and of a run: whole, safe, offline, and the same every time."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from made_up import EVIL, VERSUS, make_images, make_results, make_run, make_study, references
from PIL import Image

from likewise.report import write_report
from likewise.report.wording import finding, verdict

VOID = {"meta", "link", "img", "br", "option"}  # option's end tag may be left out, but is not here


class Page(HTMLParser):
    """Every tag closed in order, unique ids; and what the page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]
        if tag == "img":
            self.images.append(found)
        if tag not in VOID - {"option"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID - {"option"}:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(*paths: Path, out: Path) -> str:
    assert write_report(paths, out, references) == out.stat().st_size
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("studies") / "made-up")


@pytest.fixture(scope="module")
def html(study: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(study, out=tmp_path_factory.mktemp("out") / "new" / "report.html")


def test_every_section_is_there_and_the_html_is_sound(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    sections = "headline arms pareto training conflict steps gallery failures robustness overhead"
    assert {*sections.split(), "environment"} <= set(page.ids)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    for words in (
        "SARS & TDW <b> against naive: better on “same subject (evaluator)” and “prompt followed",
        "+0.0200. Over 2 subjects +0.0050 … +0.0400 (p < 0.001), over 2 seeds +0.0100",
        "Not finished, and not in these numbers: 1 unit (train sars-only seed 0)",
        "0.700 ★",
        "Better than naive on both: SARS & TDW <b>.",
        "SARS & TDW <b> − other +0.0200",
        "Most conflicted prompts",
        "prompt reward at step 0",
        "Where “same subject (evaluator)” fell most",
        "likewise evaluate it",
    ):
        assert words in page.text, words
    assert "Where “prompt followed (evaluator)” fell most" not in page.text  # it fell nowhere


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    page = Page(html)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "http:" not in html and "https:" not in html and "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert re.search(r"<link(?![^>]*data:)", html) is None


def test_what_others_wrote_is_escaped(html: str) -> None:
    assert "<script>alert" not in html and "TDW <b>" not in html
    page = Page(html)
    assert EVIL in page.text
    assert all(image["alt"] for image in page.images)
    assert any(EVIL in str(image["alt"]) for image in page.images)


def test_images_stand_beside_their_reference(html: str) -> None:
    images = []
    for found in Page(html).images[:4]:
        data = base64.b64decode(str(found["src"]).partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as image:
            images.append(image.convert("RGB").getpixel((4, 4)))
    red, *others = images
    assert isinstance(red, tuple) and red[0] > 200 and max(red[1:]) < 50
    assert others == [(0, 0, 0)] * 3  # task 0 is black: before, baseline, and the arm in question
    assert "subject 0.75, prompt ✓" in html and "subject 0.25, prompt ✓" in html


def test_plots_take_the_colour_of_the_page(html: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(plots) > 10
    assert all("currentColor" in plot and "#010203" not in plot for plot in plots)
    assert all("<text" in plot for plot in plots)  # words, not outlines


def test_equal_studies_give_equal_bytes(study: Path, html: str, tmp_path: Path) -> None:
    assert report(study, out=tmp_path / "again.html") == html


def test_what_a_study_lacks_is_said(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "bare", bare=True)
    page = Page(report(folder, out=tmp_path / "bare.html"))
    assert "results.json is missing" in page.text and "No images yet" in page.text
    assert "has not been measured" in page.text
    assert {"training", "conflict", "steps"} <= set(page.ids)
    assert not {"arms", "pareto", "overhead"} & set(page.ids)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "study.yaml").write_bytes((folder / "study.yaml").read_bytes())
    page = Page(report(tmp_path / "empty", out=tmp_path / "empty.html"))
    assert "training" not in page.ids and "results.json is missing" in page.text


@pytest.mark.parametrize(("seeds", "over"), [(4, "subjects"), (5, "seeds")])
def test_differences_have_intervals_over_seeds_if_many(
    seeds: int, over: str, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "study")
    results = make_results()
    results["arms"]["sars-only"] = {**results["arms"]["sars-tdw"], "label": "SARS"}
    for arm in results["arms"].values():
        arm["seeds"] = list(range(seeds))
    (folder / "results.json").write_text(json.dumps(results))
    page = Page(report(folder, out=tmp_path / "out.html"))
    assert f"Paired differences to naive, with 95 % intervals over {over}" in page.text


def test_a_difference_is_claimed_if_both_intervals_exclude_0() -> None:
    results = make_results()
    versus = results["arms"]["sars-tdw"]["versus"]
    unsure = {**VERSUS, "over_seeds": [-0.01, 0.05]}
    versus["evaluator/identity"] = unsure
    versus["evaluator/prompt"] = {**unsure, "over_subjects": [-0.01, 0.05]}
    assert finding("ours", "naive", results, "sars-tdw") == (
        "ours against naive: no difference shown on “prompt followed (evaluator)”; not settled on "
        "“same subject (evaluator)”, where intervals over subjects and over seeds disagree."
    )
    below = {"over_seeds": [-0.2, -0.1], "over_subjects": [-0.3, -0.1]}
    assert verdict({**VERSUS, **below}) == "worse"
    assert verdict({**VERSUS, "over_seeds": [None, None]}) == "not settled"  # a single seed


def test_runs_are_reported_beside_each_other(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name / "seed-0", seed=n).path for n, name in enumerate("ab")]
    make_images(runs[0] / "evaluation" / "bench" / "before", 0.5, 0.0)
    make_images(runs[0] / "evaluation" / "bench" / "after", 0.6, 1.0)
    Image.new("RGB", (40, 20)).save(runs[1] / "samples" / "000002.png")
    page = Page(report(*runs, out=tmp_path / "runs.html"))
    assert len(page.ids) == len(set(page.ids))
    for words in (
        "a/seed-0 (stickers, seed 0): 3 iterations of 24",
        "same subject (evaluator) 0.500 → 0.800",
        "a/seed-0: bench",
        "b/seed-0 has not been evaluated",
        "likewise train stickers",
        "clip_range: 0.0001",
    ):
        assert words in page.text, words
    assert len(page.images) == 4 * 3 + 1


def test_conflict_of_gradients_is_reported_where_measured(tmp_path: Path) -> None:
    """By hand: opposed in one of two iterations, most at step 2; only of the run that measured."""
    runs = [make_run(tmp_path / name, seed=n) for n, name in enumerate("ab")]
    assert "Do the gradients conflict?" not in Page(report(runs[1].path, out=tmp_path / "x")).text
    rows = runs[0].read_metrics()
    runs[0].forget_after(-1)
    measured = {1: (-0.3, -0.5, 0.1), 3: (0.1, -0.1, None)}
    for row in rows:
        whole, early, late = measured.get(row["iteration"], (None, None, None))
        if whole is not None:
            steps = {"gradient/cosine/step_02": early, "gradient/cosine/step_05": late}
            row |= {"gradient/cosine": whole, **steps}
        runs[0].append_metrics(row)
    page = Page(report(*(run.path for run in runs), out=tmp_path / "runs.html"))
    for words in (
        "Do the gradients conflict?",
        "a: opposed in 1 of 2 measured iterations, mean cosine −0.10; "
        "by step from −0.30 (step 2) to +0.10 (step 5).",
    ):
        assert words in page.text, words
    assert "b: opposed" not in page.text


def test_a_run_that_has_just_begun_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.forget_after(-1)
    page = Page(report(run.path, out=tmp_path / "run.html"))
    assert "No metrics yet" in page.text and "no images yet" in page.text


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nowhere"], "nowhere is not a folder: expected one with recipe.yaml"),
        (["plain"], "plain holds neither recipe.yaml (a run"),
        (["study", "study"], "one study, or about any number of runs"),
        (["run", "run"], "named twice"),
    ],
)
def test_wrong_paths_are_refused(names: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("name: it")
    make_run(tmp_path / "run")
    with pytest.raises(ValueError, match=re.escape(said)):
        write_report([tmp_path / name for name in names], tmp_path / "out.html", references)
    assert not (tmp_path / "out.html").exists()


def test_samples_that_are_no_images_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.sample_path(2).write_text("<script>")
    (run.path / "samples" / "notes.png").write_text("mine")
    write_report([run.path], tmp_path / "out.html", references)
    assert "samples that are not images: 000002.png." in (tmp_path / "out.html").read_text()


def test_a_recipe_is_shown_without_the_folders_of_its_paths(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = (run.path / "recipe.yaml").read_text()
    content = yaml.safe_load(text)
    content["data"] = {"kind": "jsonl", "path": "/home/somebody/photos/tasks.jsonl"}
    (run.path / "recipe.yaml").write_text(yaml.safe_dump(content))
    write_report([run.path], tmp_path / "out.html", references)
    html = (tmp_path / "out.html").read_text()
    assert "path: tasks.jsonl" in html and "somebody" not in html


def test_a_dollar_in_a_label_is_no_formula(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("label: naive", r"label: 'a $\frac{b$'"))
    write_report([folder], tmp_path / "out.html", references)
    assert r"a $\frac{b$" in (tmp_path / "out.html").read_text()


def test_numbers_that_no_float_can_hold_are_unknown(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    results = folder / "results.json"
    results.write_text(results.read_text().replace('"high": 0.6', '"high": 1e400'))
    write_report([folder], tmp_path / "out.html", references)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("results.json", '"mean": 0.02', '"mean": [[0.02]]', "mean: Input should be"),
        ("results.json", '"p_seeds": 0.5', '"p_seeds": 1e400', "p_seeds: Input should be"),
        ("results.json", '"label": "naive"', '"label": ["naive"]', "arms.naive.label: Input"),
        (
            "results.json",
            '"n": 4, "evaluator',
            '"n": [4], "evaluator',
            "neither a label nor an estimate",
        ),
        ("attribution.json", "[0.6, 0.3, 0.1]", "[[0.6], 0.3]", "share"),
        ("base/model/scores.parquet", None, "PAR1", " is damaged"),
        ("runs/naive/seed-0/environment.json", None, "[1]", " is damaged"),
        ("runs/naive/seed-0/rewards/000001.parquet", None, "", " is damaged"),
        ("runs/naive/seed-0/metrics.jsonl", '"correlation": -0.2', '"correlation": [[1]]', "line"),
    ],
)
def test_damaged_inputs_are_named(
    file: str, old: str | None, new: str, said: str, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "study")
    if old is not None:
        text = (folder / file).read_text()
        assert old in text
        new = text.replace(old, new)
    (folder / file).write_text(new)
    with pytest.raises(ValueError, match=f"{Path(file).name}.*{re.escape(said)}"):
        paths = [folder / "runs/naive/seed-0"] if "environment" in file else [folder]
        write_report(paths, tmp_path / "out.html", references)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "results.json is damaged"), ("[]", "not a JSON object"), ("{}", "lacks aims, arms")],
)
def test_damaged_results_are_named(text: str, said: str, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", bare=True)
    (folder / "results.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        write_report([folder], tmp_path / "out.html", references)
