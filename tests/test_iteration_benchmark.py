"""The benchmarks of iterations run: of the nano generator, and of a model of FLUX's size."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = [
    *("rollout.group_size=2", "rollout.num_steps=3", "rollout.trained.size=1"),
    *("run.device=cpu", "run.threads=1"),
]


@pytest.fixture
def iteration(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("iteration")


@pytest.fixture
def flux_size(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("flux_size")


def test_shapes_are_compared_within_rounds(iteration: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = ["--rounds", "2", "--pairs", "0", "--tasks", "1", "--out", str(out)]
    iteration.main([*words, "--only", "naive", "nft", "before", "batch-1", "--", *TINY])
    found = json.loads(out.read_text())
    assert {"started", "hardware", "versions", "changes"} <= found.keys()
    assert set(found["shapes"]) == {"default", "naive", "nft", "before", "batch-1"}
    for name, shape in found["shapes"].items():
        assert {"total", "rollout", "reward", "update"} <= shape["seconds"].keys()
        ratio = shape["ratio"]["total"]
        assert ratio["count"] == 2 and 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
        assert name != "default" or ratio["median"] == 1


def test_every_shape_is_a_recipe(iteration: ModuleType) -> None:
    """As released code does: a loop of one image at a time, and nothing done once per group."""
    recipes = {
        name: iteration.load_recipe(recipe, list(own))
        for name, (recipe, own) in iteration.SHAPES.items()
    }
    assert [recipes[f"group-{size}"].rollout.group_size for size in (6, 24, 48)] == [6, 24, 48]
    one = recipes["batch-1"].rollout
    assert one.micro_batch == 1 and one.shared_noise is False


@pytest.mark.slow
def test_one_process_is_compared_with_two(iteration: ModuleType, tmp_path: Path) -> None:
    found = iteration.compare_processes(tmp_path, 1, ["rollout.tasks=1", *TINY[:3]], 2)
    assert found["seconds"].keys() == {"1", "2"} and found["ratio of two to one"]["count"] == 1


def test_a_small_model_rehearses_flux(flux_size: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    flux_size.main(["--tiny", "--device", "cpu", "--iterations", "1", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["matmul tflops"] > 0
    for name in ("kontext", "kontext-nft"):
        one = found[name]
        assert one["seconds"] > 0 and one["planned gib"] > 0 and one["peak gib"] is None
        assert one["tokens per second"] == pytest.approx(one["tokens"] / one["seconds"])
        assert 0 < one["share of matmul rate"] < 1
    assert found["kontext"]["ratio deviation"] == 0
    # Text 8, image 16 and reference 16 tokens. One forward each at steps 0 and 1, where the group
    # still is one; 4 each at steps 2 and 3; and again 1 and 4 in the update of steps 1 and 2.
    assert found["kontext"]["tokens"] == 40 * (2 + 8 + 1 + 4)
