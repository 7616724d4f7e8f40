"""Photos in the sizes that a run needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import photosets
from PIL import Image
from tiny import a_task, photo

from likewise.builders.datasets import build_stream, fitted_tasks
from likewise.config import load_recipe

POLICY = load_recipe("stickers").policy


def test_photos_that_tasks_share_stay_shared() -> None:
    """DreamBench's 750 tasks show 158 photos."""
    reference, large, small = photo(80, 120), Image.new("RGB", (3000, 1500)), photo(40, 30)
    one = replace(a_task(reference=reference), other_photos=(large, small))
    two = replace(one, id="two", other_photos=(small, reference))
    first, second = fitted_tasks([one, two], POLICY)
    assert first.reference is second.reference and first.reference.size == (64, 64)
    assert first.other_photos[0].size == (1024, 512)
    assert first.other_photos[1] is second.other_photos[0]
    assert first.other_photos[1].tobytes() == small.tobytes()
    assert second.other_photos[1].tobytes() == reference.tobytes()  # whole where it is held out
    assert large.size == (3000, 1500)


def test_large_held_out_photos_are_scaled_down(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=2, subjects=1)
    rows = photosets.lines_of(file)
    Image.new("RGB", (2600, 1300), "red").save(tmp_path / "photos" / "large.png")
    photosets.write_lines(
        file, [{**row, "heldout_references": ["photos/large.png"]} for row in rows]
    )
    data = ["data.kind=jsonl", f"data.path={file}", "data.workers=0", "data.held_out=null"]
    data += ["rewards.identity.segment=false"]
    task = build_stream(load_recipe("stickers", data))(0)
    assert [each.size for each in task.other_photos] == [(1024, 512)]
