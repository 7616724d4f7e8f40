"""Summaries: what they hold, how they read, and with what they share no table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from likewise.analysis.intervals import Estimate
from likewise.cli.evaluation_tables import joint_table, table
from likewise.evaluation.settings import SETTINGS, Settings, claim_folder, read_settings
from likewise.evaluation.summary import (
    SUMMARY,
    MixedProtocolsError,
    Summary,
    read_summary,
    side_by_side,
    summarise,
    table_rows,
    write_summary,
)

SETTINGS_HERE = Settings(
    "stickers", "uno", 4, 1, 0, 8, {"dino": "nano-dino", "clip-t": "nano-clip"}
)


def scores(dino: list[float], clip_t: list[float | None]) -> pa.Table:
    """Two subjects with two tasks each and an image per task."""
    return pa.table(
        {
            "task": ["dog-0", "dog-1", "mug-0", "mug-1"],
            "number": [0, 0, 0, 0],
            "subject": ["dog", "dog", "mug", "mug"],
            "dino/conditioning": dino,
            "dino/photos": [[value, value - 0.2] for value in dino],
            "clip-t": pa.array(clip_t, pa.float32()),
        }
    )


BEFORE = scores([0.5, 0.7, 0.8, 0.8], [0.25, 0.5, 0.5, None])
AFTER = scores([0.6, 0.8, 0.7, 0.9], [0.5, 0.5, 0.5, 0.0])


@pytest.fixture
def run() -> Summary:
    return summarise({"before": BEFORE, "after": AFTER}, SETTINGS_HERE)


def test_a_run_by_hand(run: Summary) -> None:
    """Under `uno`: dogs change by 0.1 and mugs by 0; of CLIP-T three images are known twice."""
    assert list(run.systems["before"]) == ["dino", "dino/conditioning", "clip-t"]
    assert run.systems["before"]["dino"].mean == pytest.approx((0.5 + 0.7) / 2)
    assert run.systems["after"]["dino"].mean == pytest.approx((0.6 + 0.7) / 2)
    assert run.change["dino"].mean == pytest.approx(0.05)
    assert (run.change["dino"].low, run.change["dino"].high) == pytest.approx((0.0, 0.1))
    # Not after − before of the means: the mug's second image has no score before.
    assert run.change["clip-t"].mean == pytest.approx((0.125 + 0.0) / 2)


def test_the_protocol_decides() -> None:
    one = {"model": BEFORE}
    means = {
        name: summarise(one, replace(SETTINGS_HERE, protocol=name)).systems["model"]["dino"]
        for name in ("dreambooth", "single-ref")
    }
    assert means["dreambooth"].mean == pytest.approx(0.6) and means["dreambooth"].n == 8
    assert means["single-ref"].mean == pytest.approx(0.7) and means["single-ref"].n == 4
    with pytest.raises(ValueError, match="unknown protocol 'ono'; did you mean 'uno'"):
        summarise(one, replace(SETTINGS_HERE, protocol="ono"))


def test_rows_for_people(run: Summary) -> None:
    header, dino, *_, clip = table_rows(run)
    assert header == ("metric", "before", "after", "change", "95 % interval")
    assert dino == ("dino", "0.600", "0.650", "+0.050", "+0.000 … +0.100")
    assert clip[:4] == ("clip-t", "0.438", "0.375", "+0.062")
    model = Summary(SETTINGS_HERE, {"model": {"dino": Estimate(0.5, 0.4, 0.6, 9)}, "real": {}})
    assert table_rows(model) == [
        ("metric", "model", "real"),
        ("dino", "0.500 (0.400 … 0.600)", "–"),
    ]
    alone = Summary(SETTINGS_HERE, {"model": {"dino": Estimate(0.5, None, None, 1)}})
    assert table_rows(alone)[1] == ("dino", "0.500")
    nothing = Summary(SETTINGS_HERE, {"model": {"dino": Estimate(None, None, None, 0)}})
    assert table_rows(nothing)[1] == ("dino", "–")


def test_a_summary_survives_writing(tmp_path: Path, run: Summary) -> None:
    write_summary(tmp_path, run)
    assert read_summary(tmp_path) == run


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}, "systems": {}, "change": {}}'])
def test_a_damaged_summary_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=rf"is not a finished evaluation: it has no {SUMMARY}"):
        read_summary(tmp_path)
    (tmp_path / SUMMARY).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        read_summary(tmp_path)


def test_like_evaluations_share_a_table(run: Summary) -> None:
    drawn_otherwise = replace(SETTINGS_HERE, seed=7, num_steps=25, encoders={"dino": "nano-dino"})
    other = Summary(drawn_otherwise, {"model": {"dino": Estimate(0.5, None, None, 1)}})
    header, dino, *rest = side_by_side({"mine": run, "theirs": other})
    assert header == ("metric", "mine/before", "mine/after", "theirs/model")
    assert dino[0] == "dino" and dino[-1] == "0.500" and all(row[-1] == "–" for row in rest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "single-ref"}, "protocol is uno in mine, single-ref in theirs"),
        ({"benchmark": "dreambench"}, "benchmark is stickers in mine, dreambench in theirs"),
        ({"tasks": 750}, "tasks is 4 in mine, 750 in theirs"),
        ({"encoders": {"dino": "x"}}, "encoder of dino is nano-dino in mine, x in theirs"),
    ],
)
def test_unlike_evaluations_share_no_table(run: Summary, change: dict, words: str) -> None:
    theirs = Summary(replace(SETTINGS_HERE, **change), {"model": {}})
    with pytest.raises(
        MixedProtocolsError, match=f"^mine and theirs must not share a .*: {words}$"
    ):
        side_by_side({"mine": run, "theirs": theirs})


def test_the_second_and_third_may_disagree_too(run: Summary) -> None:
    two, three = (
        Summary(replace(SETTINGS_HERE, encoders={"clip-i": encoder}), {"model": {}})
        for encoder in ("a", "b")
    )
    with pytest.raises(
        MixedProtocolsError, match=r"two and three .* clip-i is a in two, b in three"
    ):
        side_by_side({"one": run, "two": two, "three": three})


def test_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "evaluation"
    claim_folder(folder, SETTINGS_HERE)
    claim_folder(folder, SETTINGS_HERE)
    assert read_settings(folder) == SETTINGS_HERE
    other = replace(SETTINGS_HERE, seed=1, encoders={"dino": "nano-dino", "clip-t": "other"})
    words = r"other settings .seed: 0, not 1; encoder of clip-t: nano-clip, not other.: "
    with pytest.raises(ValueError, match=words):
        claim_folder(folder, other)
    assert read_settings(folder) == SETTINGS_HERE


def test_settings_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"is not an evaluation: it has no {SETTINGS}"):
        read_settings(tmp_path)
    (tmp_path / SETTINGS).write_text('{"benchmark": "x"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        read_settings(tmp_path)


def test_images_without_scores_are_counted_in_every_table(tmp_path: Path) -> None:
    spoilt = pa.array(["flat", None, "not_finite", "flat"], pa.string())
    found = summarise(
        {"before": BEFORE, "after": AFTER.append_column("spoilt", spoilt)}, SETTINGS_HERE
    )
    assert found.spoilt == {"after": {"flat": 2, "not_finite": 1}}
    write_summary(tmp_path, found)
    assert read_summary(tmp_path) == found
    said = "after: flat images: 2, not finite images: 1 (missing in all scores)"
    assert table(found).caption == said
    both = joint_table({"runs/a": replace(found, spoilt={}), "runs/b": found})
    assert str(both.caption).endswith("2/" + said)


def test_a_system_trained_on_the_benchmark_is_marked_everywhere(
    tmp_path: Path,
) -> None:
    said = "trained on 1 of the benchmark's 2 subjects (dog)"
    found = summarise({"before": BEFORE, "after": AFTER}, SETTINGS_HERE, {"after": said})
    write_summary(tmp_path, found)
    assert read_summary(tmp_path) == found and found.trained_on == {"after": said}
    alone, joint = (
        table(found),
        joint_table({"runs/a": found, "runs/b": replace(found, trained_on={})}),
    )
    assert [str(column.header) for column in alone.columns][:3] == ["metric", "before", "after*"]
    assert alone.caption == f"* after: {said}"
    heads = [str(column.header) for column in joint.columns]
    assert heads == ["metric", "1/before", "1/after*", "2/before", "2/after"]
    assert str(joint.caption).splitlines() == ["1: runs/a", "2: runs/b", f"* 1/after: {said}"]
