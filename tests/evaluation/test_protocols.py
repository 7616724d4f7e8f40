"""Protocols on two subjects small enough to average by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from likewise.evaluation.benchmark_protocols import (
    PROTOCOLS,
    average,
    find_protocol,
    metric_values,
    metrics_of,
    protocol_mean,
)

# A dog of two photos in two images, and a mug of three photos in one image.
PHOTOS = {"dog": [[0.8, 0.6], [0.4, 0.2]], "mug": [[0.9, 0.6, 0.6]]}
HELD_OUT = [0.6, 0.2, 0.6]
CLIP_T = [0.2, 0.4, 0.9]


def scores(
    photos: dict[str, list[list[float | None]]] = PHOTOS, **columns: list[float | None]
) -> pa.Table:
    """A table of the images, one task per subject."""
    rows = [
        (subject, number, row) for subject in photos for number, row in enumerate(photos[subject])
    ]
    return pa.table(
        {
            "file": [f"{subject}-{number}.png" for subject, number, _ in rows],
            "task": [f"{subject}-00" for subject, _, _ in rows],
            "number": [number for _, number, _ in rows],
            "subject": [subject for subject, _, _ in rows],
            "complexity": [1 for _ in rows],
            "dino/conditioning": pa.array([row[0] for _, _, row in rows], pa.float64()),
            "dino/photos": [row for _, _, row in rows],
            **{name: pa.array(values, pa.float32()) for name, values in columns.items()},
        }
    )


TABLE = scores(**{"dino/held-out": HELD_OUT, "clip-t": CLIP_T})


@pytest.mark.parametrize(
    ("name", "metric", "mean", "n"),
    [
        # All seven pairs of image and photo, so the mug's three photos count three times.
        ("dreambooth", "dino", (0.8 + 0.6 + 0.4 + 0.2 + 0.9 + 0.6 + 0.6) / 7, 7),
        # The dog's mean is 0.5, the mug's 0.7.
        ("uno", "dino", (0.5 + 0.7) / 2, 2),
        # Only the first photo of each, over three images.
        ("single-ref", "dino", (0.8 + 0.4 + 0.9) / 3, 3),
        # One value per image: over images, or over subjects (0.3 and 0.9).
        ("dreambooth", "clip-t", (0.2 + 0.4 + 0.9) / 3, 3),
        ("uno", "clip-t", (0.3 + 0.9) / 2, 2),
        ("single-ref", "clip-t", (0.2 + 0.4 + 0.9) / 3, 3),
        # What is not the protocol's own is still there under its own name.
        ("dreambooth", "dino/conditioning", (0.8 + 0.4 + 0.9) / 3, 3),
        ("single-ref", "dino/held-out", (0.6 + 0.2 + 0.6) / 3, 3),
        ("uno", "dino/held-out", (0.4 + 0.6) / 2, 2),
    ],
)
def test_two_subjects_by_hand(name: str, metric: str, mean: float, n: int) -> None:
    found = protocol_mean(TABLE, PROTOCOLS[name], metric)
    assert found.mean == pytest.approx(mean, abs=1e-7) and found.n == n


def test_the_three_protocols_give_three_numbers() -> None:
    means = [protocol_mean(TABLE, protocol, "dino").mean for protocol in PROTOCOLS.values()]
    assert means == pytest.approx([4.1 / 7, 0.6, 0.7])
    assert min(abs(a - b) for a in means for b in means if a is not b) > 0.01


def test_protocols_are_those_of_the_method() -> None:
    found = {
        name: (p.references, p.images_per_prompt, p.averaging, p.seed)
        for name, p in PROTOCOLS.items()
    }
    assert found == {
        "dreambooth": ("photos", 4, "pairs", 0),
        "uno": ("photos", 6, "subjects", 0),
        "single-ref": ("conditioning", 1, "images", 3407),
    }


def test_a_photo_is_not_compared_with_itself() -> None:
    """Real photos: null on the diagonal, and for the conditioning photo against itself."""
    table = scores(
        {
            "dog": [[None, 0.5], [0.5, None]],
            "mug": [[None, 0.9, 0.6], [0.9, None, 0.3], [0.6, 0.3, None]],
        }
    )
    means = {name: protocol_mean(table, PROTOCOLS[name], "dino") for name in PROTOCOLS}
    assert means["dreambooth"].mean == pytest.approx((2 * 0.5 + 2 * (0.9 + 0.6 + 0.3)) / 8)
    assert means["uno"].mean == pytest.approx((0.5 + 0.6) / 2)
    assert means["single-ref"].mean == pytest.approx((0.5 + 0.9 + 0.6) / 3)
    assert [means[name].n for name in PROTOCOLS] == [8, 2, 3]


def test_values_that_are_missing_are_left_out_and_not_zero() -> None:
    table = scores(**{"clip-t": [None, 0.4, 0.8], "hps-v3": [None, None, None]})
    assert protocol_mean(table, PROTOCOLS["dreambooth"], "clip-t").mean == pytest.approx(0.6)
    assert protocol_mean(table, PROTOCOLS["uno"], "clip-t").mean == pytest.approx(0.6)
    for protocol in PROTOCOLS.values():
        assert protocol_mean(table, protocol, "hps-v3").mean is None


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_interval_is_over_subjects(protocol) -> None:
    """More images of the same subjects that say the same make nobody surer."""
    few = {f"s{i}": [[i / 10, i / 20]] for i in range(8)}
    many = {subject: rows * 20 for subject, rows in few.items()}
    narrow, wide = (protocol_mean(scores(photos), protocol, "dino") for photos in (many, few))
    assert (narrow.low, narrow.high) == pytest.approx((wide.low, wide.high))
    assert wide.low < wide.mean < wide.high
    alone = protocol_mean(scores({"dog": PHOTOS["dog"]}), protocol, "dino")
    assert alone.low is None and alone.mean is not None


def test_differences_are_paired_whatever_the_order_of_rows() -> None:
    protocol = PROTOCOLS["dreambooth"]
    better = scores({s: [[x + 0.1 for x in row] for row in rows] for s, rows in PHOTOS.items()})
    after = metric_values(better.take([2, 0, 1]), protocol, "dino")
    change = average(after.minus(metric_values(TABLE, protocol, "dino")), protocol)
    assert (change.mean, change.low, change.high) == pytest.approx((0.1, 0.1, 0.1))
    some = average(after.minus(metric_values(TABLE.slice(0, 1), protocol, "dino")), protocol)
    assert some.n == 2  # one image, two photos


def test_what_a_table_can_be_asked_for() -> None:
    rest = ["dino/held-out", "clip-t"]
    assert metrics_of(TABLE, PROTOCOLS["single-ref"]) == ["dino", *rest]
    assert metrics_of(TABLE, PROTOCOLS["uno"]) == ["dino", "dino/conditioning", *rest]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("dinov2", "'dino'"),
        ("dino/photos", "'dino"),
        ("complexity", "did you mean"),
        ("clip", "'clip-t'"),
    ],
)
def test_an_unknown_metric_is_one_clear_error(metric: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"no metric '{metric}' in these scores; .*{words}"):
        protocol_mean(TABLE, PROTOCOLS["uno"], metric)


def test_an_unknown_protocol_is_one_clear_error() -> None:
    assert find_protocol("uno") is PROTOCOLS["uno"]
    with pytest.raises(ValueError, match="unknown protocol 'dreambench'; did you mean 'dreamboo"):
        find_protocol("dreambench")
