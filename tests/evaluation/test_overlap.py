"""Subjects of a benchmark that a run was trained on are found by what photos show."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from photosets import compressed, scene
from PIL import Image
from tiny import a_task

from likewise.config.policy_sections import FluxKontext
from likewise.data.sources.fitting import fit_held_out, fit_reference
from likewise.evaluation.overlap import label, seen_subjects, trained_photos
from likewise.fingerprints import FingerprintIndex, fingerprint
from likewise.types import Task

POLICY = FluxKontext(model="nowhere", height=64, width=64, auto_resize=False)


def fit(photo: Image.Image) -> Image.Image:
    return fit_reference(photo, POLICY)


def bench() -> list[Task]:
    """Three subjects of three photos, two tasks each."""
    return [
        replace(
            a_task(),
            subject=f"s{number}",
            id=f"s{number}-{prompt}",
            reference=scene(3 * number),
            other_photos=(scene(3 * number + 1), scene(3 * number + 2)),
        )
        for number in range(3)
        for prompt in range(2)
    ]


def test_a_subject_is_seen_by_any_of_its_photos() -> None:
    as_reference = fingerprint(fit(compressed(scene(4), 80)))  # held out in the benchmark
    as_held_out = fingerprint(fit_held_out(scene(6)))
    trained = FingerprintIndex([fingerprint(fit(scene(50))), as_reference, as_held_out])
    assert seen_subjects(trained, bench(), (fit, fit_held_out)) == ["s1", "s2"]
    assert seen_subjects(FingerprintIndex([]), bench(), (fit, fit_held_out)) == []


def test_the_label_counts_and_names_them() -> None:
    assert label([], bench()) == ""
    assert label(["s1"], bench()) == "trained on 1 of the benchmark's 3 subjects (s1)"
    assert label([*"abcdefg"], bench()).endswith(
        "7 of the benchmark's 3 subjects (a, b, c, d, e, …)"
    )


def test_reward_tables_tell_what_was_trained_on() -> None:
    marks = [fingerprint(scene(seed)) for seed in range(3)]
    table = pa.table({"photos": [marks[:1], marks[:1], marks[1:]]})
    trained = trained_photos(pa.concat_tables([table, table]))
    assert trained is not None and len(trained) == 3 and trained.matches(marks[2])
    assert trained_photos(pa.table({"task": ["a"]})) is None
