"""A short run of the demo's recipe gives the numbers that were stored: no silent drift.

After a change that is meant to change them, write them anew, look at the difference, and say in
the commit why::

    PYTHONPATH=src:tests:tests/trainer OMP_NUM_THREADS=1 python tests/trainer/test_golden.py --write
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

import pytest

from likewise.api import train
from likewise.config import load_recipe

FILE = Path(__file__).parent / "golden_stickers.json"
SMALL = (
    "rollout.tasks=2",
    "rollout.group_size=4",
    "rollout.micro_batch=8",
    "optimizer.updates_per_iteration=1",
    "run.iterations=3",
    "run.processes=1",
    "run.device=cpu",
    "run.evaluation.every=3",
    "run.evaluation.tasks=4",
    "run.trackers=[]",
)

# Machines differ in the order in which they add; so do other micro-batches, and AVX2 kernels
# instead of AVX-512 and AMX (ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY). Measured with those:
# In float32, means of rewards moved by 4e-6, their extremes by 1.5e-5 (a pixel that is rounded
# otherwise; on one machine by 1.7e-4), and what follows from z by 1.6e-4 (the same, in standard
# deviations of a group).
# In bfloat16 means moved by 1e-3 and extremes by 4e-3. What follows from z moved by whole images
# (1/8), and is not compared there.
EXTREMES = 5  # times the bound: single images, not means
FLOAT32 = {"reward/": 1e-4, "eval/": 1e-4, "": 2e-3}
BFLOAT16 = {"reward/": 1e-2, "eval/": 1e-2}

Rows = list[dict[str, float | None]]


def draw_numbers(dtype: str, folder: Path, *more: str) -> Rows:
    """The metrics of the recipe, scaled down."""
    recipe = load_recipe("stickers", [*SMALL, f"policy.dtype={dtype}", *more])
    return train(recipe, folder / dtype, quiet=True).run.read_metrics()


def differences(got: Rows, wanted: Rows, tolerances: dict[str, float]) -> list[str]:
    """What is off by more than the tolerance of the first prefix that fits; others are ignored."""
    found = []
    for row, stored in zip(got, wanted, strict=True):
        if row.keys() != stored.keys():
            found.append(f"other names: {sorted(row.keys() ^ stored.keys())}")
        for name in row.keys() & stored.keys():
            bound = next((b for prefix, b in tolerances.items() if name.startswith(prefix)), None)
            if bound is not None and name.endswith(("/min", "/max")):
                bound *= EXTREMES
            if bound is not None and not _close(row[name], stored[name], bound):
                found.append(f"{row['iteration']} {name}: {row[name]}, stored {stored[name]}")
    return found


def _close(one: float | None, other: float | None, bound: float) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=bound)


@pytest.mark.parametrize(
    ("dtype", "tolerances"),
    [
        ("float32", FLOAT32),
        pytest.param("bfloat16", BFLOAT16, marks=pytest.mark.slow),  # as shipped
    ],
)
def test_numbers_are_those_stored(tmp_path: Path, dtype: str, tolerances: dict[str, float]) -> None:
    stored = json.loads(FILE.read_text(encoding="utf-8"))[dtype]
    got = draw_numbers(dtype, tmp_path)
    assert differences(got, stored, tolerances) == [], "see the top of this file"


def write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = {dtype: draw_numbers(dtype, Path(folder)) for dtype in ("float32", "bfloat16")}
    FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
