"""Runs while they train: charts, warnings, time left, and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from made_up import make_run
from serving import served

from likewise.app.catalogue import Catalogue
from likewise.app.server import create_app
from likewise.app.telemetry import Plan, telemetry, warnings

PLAN = Plan({"prompt": "clip", "identity": "dino", "copy": "copy-index"}, 10, images=16, tasks=25)


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    """Iterations 0 …; values may be functions of the iteration."""
    found = []
    for n in range(count):
        values = {key: value(n) if callable(value) else value for key, value in more.items()}
        found.append({"iteration": n, **values})
    return found


def test_charts_have_intervals_where_they_are_known() -> None:
    metrics = rows(3, **{"eval/evaluator/identity": 0.5, "eval/evaluator/identity/std": 0.25,
                         "reward/prompt/mean": 0.1, "conflict_rate": 0.4})  # fmt: skip
    found = telemetry(PLAN, metrics, [])
    charts = {chart.title: chart for chart in found.charts}
    assert list(charts) == ["Held-out evaluators", "Rewards in training", "Conflict"]
    # 1.96 standard errors of 25 values with a deviation of 0.25 are 0.098.
    point = charts["Held-out evaluators"].lines["identity"][0]
    assert point == (0, 0.5, pytest.approx(0.402), pytest.approx(0.598))
    assert charts["Rewards in training"].lines["prompt"][1] == (1, 0.1, None, None)


def test_weights_and_gradients_are_by_step() -> None:
    metrics = [
        {"iteration": 1, "weight/prompt/step_00": 0.7, "gradient/cosine/step_01": 0.1,
         "weight/prompt/step_01": 0.7, "update/grad_norm": 3.0},
        {"iteration": 2, "weight/prompt/step_02": 0.5, "gradient/cosine/step_01": -0.2},
    ]  # fmt: skip
    charts = {chart.title: chart for chart in telemetry(PLAN, metrics, []).charts}
    assert charts["Weights by step"].lines == {
        "prompt": [(0, 0.7, None, None), (1, 0.7, None, None), (2, 0.5, None, None)]
    }
    lengths = charts["Length of gradients by step"].lines
    assert lengths == {"whole": [(0.5, 3.0, None, None)]}  # of an update of steps 0 and 1
    assert charts["Cosine of the gradients by step"].lines["cosine"] == [(1, -0.2, None, None)]


def test_the_time_left_follows_the_newest_iterations() -> None:
    timings = [{"iteration": n, "seconds/total": 100 if n < 2 else 2} for n in range(8)]
    assert telemetry(PLAN, rows(8), timings).eta == pytest.approx(3 * 2)
    assert telemetry(PLAN, rows(11), timings).eta == 0
    assert telemetry(PLAN, [], []).eta is None


def test_what_goes_wrong_is_said() -> None:
    rising, falling = (lambda n: 0.1 * n), (lambda n: -0.1 * n)
    assert warnings(PLAN, rows(9, **{"eval/prompt": rising, "eval/evaluator/prompt": rising})) == []
    hacked = warnings(PLAN, rows(9, **{"eval/prompt": rising, "eval/evaluator/identity": falling}))
    assert len(hacked) == 1 and "evaluator/identity falls while prompt rises" in hacked[0]
    (copying,) = warnings(PLAN, rows(9, **{"reward/copy/mean": rising}))
    assert "copy index" in copying
    (missing,) = warnings(PLAN, rows(9, **{"reward/identity/missing": 2}))
    assert "missing for 10 images" in missing
    (flat,) = warnings(PLAN, rows(9, **{"images/flat": lambda n: int(n == 8)}))
    assert "single colour" in flat
    alike = Plan({"same": "in-group-diversity"}, 10, 16)
    assert "diversity" in warnings(alike, rows(9, **{"reward/same/mean": falling}))[0]


def test_a_damaged_run_says_so_and_the_rest_works(tmp_path: Path) -> None:
    make_run(tmp_path / "good")
    torn = make_run(tmp_path / "torn").path / "metrics.jsonl"
    torn.write_text(torn.read_text() + '{"iteration": 9, "ev')
    broken = make_run(tmp_path / "broken").path / "metrics.jsonl"
    broken.write_text("nonsense\n" + broken.read_text())
    (make_run(tmp_path / "odd").path / "recipe.yaml").write_text("nonsense: 3\n")
    linked = make_run(tmp_path / "linked").path / "metrics.jsonl"
    linked.unlink()
    (tmp_path.parent / "outside.jsonl").write_text('{"iteration": 1, "secret": 5}\n')
    linked.symlink_to(tmp_path.parent / "outside.jsonl")
    ids = {Path(one.label).name: one.id for one in Catalogue([tmp_path]).runs()}
    with served(create_app([tmp_path])) as url:

        def look(name: str) -> dict[str, Any]:
            answer = httpx2.get(f"{url}/runs/data?run={ids[name]}", trust_env=False, timeout=60)
            (run,) = answer.json()["runs"]
            return run

        assert look("good")["charts"] and look("torn")["charts"] and not look("torn")["problem"]
        assert look("good")["done"] == 3
        assert "metrics.jsonl, line 1" in look("broken")["problem"]
        assert "recipe.yaml" in look("odd")["problem"]
        assert "leads out" in look("linked")["problem"] and not look("linked")["charts"]
        page = httpx2.get(f"{url}/runs", trust_env=False).text
        assert all(name in page for name in ids)
        nothing = httpx2.get(f"{url}/runs/data?run=nothing", trust_env=False)
        assert nothing.json() == {"runs": []}
