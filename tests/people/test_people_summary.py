"""What a study says, on votes whose truth is known; report, CSV and export."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voting import drawn, honest, make_study, make_task, opened, vote_through

from likewise.api.people import linear_preference
from likewise.people.files import PeopleStudy, open_study
from likewise.people.findings import summarise
from likewise.people.metric_agreement import Judged
from likewise.people.preference import fit_preference
from likewise.people.preference_export import export_preferences
from likewise.people.reporting import write_people_report


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> PeopleStudy:
    """Four honest raters who prefer `good` in 80 % of the pairs, and one who presses left."""
    folder = tmp_path_factory.mktemp("people") / "s"
    study = make_study(folder, tasks=60, raters_per_pair=5)
    store = opened(study)
    vote_through(study, store, honest(0.8), 4)
    vote_through(study, store, lambda pair, _: 1.0 if pair.check is None else 0.0, 1)
    return study


def test_the_truth_is_found(voted: PeopleStudy) -> None:
    found = summarise(voted)
    assert found["votes"] == {
        "used": 240, "of_raters_left_out": 60, "wanted": 300, "undone_or_moved": 0
    }  # fmt: skip
    result = found["results"]["overall"]
    (rate,) = result["win_rates"]
    assert (rate["first"], rate["wins"] + rate["losses"]) == ("good", 240)
    # The standard error of the rate is 0.026.
    assert rate["rate"] == pytest.approx(0.8, abs=0.08) and rate["bootstrap"][0] > 0.5
    assert rate["wilson"][0] < rate["rate"] < rate["wilson"][1]
    assert rate["p_tasks"] < 0.001 and rate["p_raters"] == pytest.approx(2 / 2**4)
    good, poor = result["strengths"]
    assert good["system"] == "good"
    assert good["mean"] - poor["mean"] == pytest.approx(np.log(4), abs=0.6)
    assert 0.1 < result["alpha"] < 0.6  # two votes agree in 0.68 of cases: α of 0.36
    assert [one["counted"] for one in found["raters"]] == [True] * 4 + [False]


def test_metrics_are_compared_with_people(voted: PeopleStudy) -> None:
    metrics = summarise(voted)["results"]["overall"]["metrics"]
    assert metrics["reward/a"]["all"]["share"] > 0.8 and metrics["reward/a"]["all"]["tau"] > 0.2
    assert metrics["reward/b"]["all"]["share"] is None  # it never differs
    assert metrics["reward/b"]["all"]["undecided"] == 60
    assert set(metrics["reward/a"]["category"]) == {"bird", "tool"}
    assert set(metrics["reward/a"]["complexity"]) == {"1", "2", "3"}


def test_a_study_without_votes_is_reported(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", questions="identity,overall")
    found = write_people_report(study, tmp_path / "out")
    assert found["votes"]["used"] == 0
    assert "no votes" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


class Scripts(HTMLParser):
    found = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += tag == "script"


def test_the_report_is_three_files_and_text_stays_text(voted: PeopleStudy, tmp_path: Path) -> None:
    write_people_report(voted, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["results"]["overall"]["win_rates"][0]["first"] == "good"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parser = Scripts()
    parser.feed(page)
    assert parser.found == 1 and "<script>alert" not in page  # the page's own
    assert "people prefer good" in page and "http" not in page.replace("http-equiv", "")
    table = list(csv.DictReader(io.StringIO((tmp_path / "votes.csv").read_text("utf-8"))))
    assert len(table) == 5 * (60 + 6)
    assert {row["outcome"] for row in table} == {"0.0", "0.5", "1.0"}


def test_raters_who_answer_at_random_do_not_agree(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", tasks=60, raters_per_pair=5)
    vote_through(study, opened(study), honest(0.5), 5)
    result = summarise(study)["results"]["overall"]
    low, high = result["win_rates"][0]["bootstrap"]
    assert low < 0.5 < high and abs(result["alpha"]) < 0.15


def test_three_systems_are_ranked(tmp_path: Path) -> None:
    tasks = [make_task(number) for number in range(30)]
    systems = {name: drawn(shade, tasks) for shade, name in ((10, "a"), (90, "b"), (170, "c"))}
    study = make_study(tmp_path / "s", systems=systems, raters_per_pair=2, checks=0)
    rng = np.random.default_rng(0)

    def rule(pair, question) -> float:
        gap = ord(pair.second.system) - ord(pair.first.system)  # a beats b beats c
        return float(rng.random() < 1 / (1 + np.exp(-gap)))

    vote_through(study, opened(study), rule, 2)
    result = summarise(study)["results"]["overall"]
    ranked = [one["mean"] for one in result["strengths"]]
    assert len(result["win_rates"]) == 3 and ranked == sorted(ranked, reverse=True)
    assert ranked[0] - ranked[2] == pytest.approx(2, abs=0.9)


def test_preferences_are_exported(voted: PeopleStudy, tmp_path: Path) -> None:
    found = export_preferences(voted, "overall", tmp_path / "out")
    lines = (tmp_path / "out" / "preferences.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == found.pairs and found.pairs + found.divided == 60
    for row in rows:
        assert (tmp_path / "out" / row["chosen"]["image"]).is_file()
        assert row["chosen"]["image"] != row["rejected"]["image"] and 0 < row["margin"] <= 1
    assert sum(row["chosen"]["system"] == "good" for row in rows) > 0.9 * len(rows)
    assert found.preference and set(found.preference.weights) == {"reward/a"}
    assert found.preference.weights["reward/a"] > 0 and (found.preference.agreement or 0) > 0.75
    with pytest.raises(ValueError, match="no question"):
        export_preferences(voted, "beauty", tmp_path / "none")


def test_a_fitted_preference_is_a_reward(tmp_path: Path) -> None:
    settings = {"kind": "function", "side": "prompt", "weight": 1.0}
    content = {
        "weights": {"bright": 2.0, "wide": -1.0},
        "rewards": {
            "bright": {**settings, "target": "voting:brightness"},
            "wide": {**settings, "target": "voting:width"},
        },
    }
    file = tmp_path / "preference.json"
    file.write_text(json.dumps(content))
    images = [Image.new("RGB", (3, 4), shade) for shade in ("white", "black")]
    found = linear_preference(file)(images, [make_task(0), make_task(1)])
    assert found == [pytest.approx(2 - 3), None]  # brightness says nothing of black images
    file.write_text('{"weights": {"bright": 1}}')
    with pytest.raises(ValueError, match=r"preference.json is damaged"):
        linear_preference(file)


def test_known_weights_are_recovered(voted: PeopleStudy) -> None:
    rng = np.random.default_rng(1)
    pair, true = voted.pairs[0], np.array([1.5, -0.5])
    judged = []
    for number in range(3000):
        gap = rng.normal(size=2)
        vote = 2.0 * (rng.random() < 1 / (1 + np.exp(-gap @ true))) - 1
        scores = {"x": gap[0], "y": gap[1]}
        own = pair.model_copy(
            update={
                "first": pair.first.model_copy(update={"scores": scores}),
                "second": pair.second.model_copy(update={"scores": {"x": 0.0, "y": 0.0}}),
                "subject": f"s{number % 3}",
            }
        )
        judged.append(Judged(own, number, vote, 1))
    found = fit_preference(judged, ["x", "y"])
    # The standard error of a weight is about 0.05 here.
    assert list(found.weights.values()) == pytest.approx(true, abs=0.2)
    assert found.agreement and found.best_single and found.agreement > found.best_single[1]


def test_damaged_studies_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a human study"):
        open_study(tmp_path)
    study = make_study(tmp_path / "s")
    lines = (study.folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    (study.folder / "pairs.jsonl").write_text("\n".join([lines[0], "{}", *lines[2:]]))
    with pytest.raises(ValueError, match=r"pairs.jsonl, line 2"):
        _ = open_study(study.folder).pairs
    (study.folder / "people.json").write_text('{"name": "x"')
    with pytest.raises(ValueError, match=r"people.json"):
        open_study(study.folder)
