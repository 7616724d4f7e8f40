"""Rewards as metrics of an evaluation: ``--metric pickscore=MODEL,setting=value``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_encoders import IMAGES, TASKS
from vlm_server import Server

from likewise.builders.metric_rewards import build_metric_rewards, build_metrics, check_metrics
from likewise.rewards.clip import ClipT
from likewise.rewards.pickscore import PickScoreReward
from likewise.rollout.scoring import score_images

CPU = torch.device("cpu")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.close()


def test_pickscore_and_a_vlm_measure_images(encoders: Path, server: Server, tmp_path: Path) -> None:
    model, vlm = encoders / "clip", f"seer,base_url={server.base_url},cache={tmp_path}"
    words = {"pickscore": f"{model},processor=null", "vlm-prompt": vlm, "vlm-identity": vlm}
    metrics = build_metric_rewards({"clip-t": "not asked", **words}, CPU)
    images = [Image.new("RGB", (16, 16), (n % 5, 4 - n % 5, 0)) for n in range(len(TASKS))]
    scores = score_images(metrics, images, TASKS)
    assert list(metrics) == list(words) and scores.valid.all(), scores.failures
    wanted, _ = PickScoreReward(model).score(images, TASKS)
    torch.testing.assert_close(scores.values[0], wanted)
    following, preservation = scores.values[1:].tolist()
    assert preservation == [n % 5 for n in range(len(TASKS))]  # as the server reads the pixels
    assert following == [4 - n % 5 for n in range(len(TASKS))]
    assert len(server.asked) == len(images)  # both scores of an image are in one answer


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (
            "hpsv3",
            "a.safetensors,bse=b",
            "metric hpsv3: .*bse: unknown key .*; did you mean 'base'",
        ),
        ("pickscore", "nowhere/at-all", "metric pickscore: cannot load 'nowhere/at-all'"),
        ("pickscore", "a,processor", "metric pickscore: .*has no '='"),
        ("vlm-prompt", "seer", "metric vlm-prompt: .*base_url"),
        ("pickscor", "a", "no metric 'pickscor'; did you mean 'pickscore'"),
    ],
)
def test_what_does_not_fit_is_named(name: str, words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_metrics({name: words})


@pytest.mark.slow
def test_a_large_model_is_checked_without_loading_it() -> None:
    check_metrics({"hpsv3": "nowhere/HPSv3.safetensors,base=nowhere"})
    with pytest.raises(ValueError, match="metric hpsv3: cannot load"):
        build_metric_rewards({"hpsv3": "nowhere/HPSv3.safetensors,base=nowhere"}, CPU)


def test_clip_t_says_which_prompts_it_read_in_part(encoders: Path) -> None:
    metric = ClipT(encoders / "clip")
    limit = metric.model.config.text_config.max_position_embeddings
    word = TASKS[0].prompt.split()[-1]
    prompts = [word, f"{word} " * (limit + 1)]
    assert metric.truncated(prompts) == [False, True]
    measures = build_metrics({"clip-t": str(encoders / "clip")}, CPU)
    columns = measures.columns(IMAGES, TASKS)
    assert columns["clip-t/truncated"] == metric.truncated([task.prompt for task in TASKS])
    assert measures.columns(IMAGES[:1], [TASKS[0]], real=False)["clip-t"][0] is not None
