"""The reward `vlm-judge` in recipes and runs; what its judge does is in `test_vlm_judge`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from vlm_server import Server, Told, chat, error, verdict

from likewise.api import train
from likewise.builders.rewards import build_rewards
from likewise.config import Recipe
from likewise.protocols import SlowReward
from likewise.rewards.vlm_judge import VlmJudgeReward
from likewise.rollout.scoring import score_images

KEY = "sk-very-SECRET/0123456789+abc=="


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("likewise.rewards.common.retries.FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    running = Server()
    yield running
    running.close()


def recipe(server: Server, **changes: Any) -> Recipe:
    """Two rewards of one judge, and the smallest run there is: two groups of two."""
    judge = {
        "kind": "vlm-judge",
        "base_url": server.base_url,
        "model": "seer-7b",
        "api_key_env": "JUDGE_KEY",
        "cache": "verdicts",
        "attempts": 2,
        "price_in": 1,
        **changes,
    }
    return Recipe.model_validate(
        {
            "name": "tiny",
            "policy": {
                "kind": "flux-kontext",
                "model": "model",
                "height": 16,
                "width": 16,
                "max_sequence_length": 8,
            },
            "adapter": {"kind": "lora", "rank": 4, "alpha": 8.0},
            "rewards": {
                "concept": {**judge, "side": "identity"},
                "wishes": {**judge, "side": "prompt", "weight": 0.5},
            },
            "credit": {
                "shaping": {"kind": "weighted-sum"},
                "time_weights": {"kind": "constant"},
            },
            "rollout": {"tasks": 2, "group_size": 2, "num_steps": 3, "micro_batch": 2},
            "run": {
                "iterations": 1,
                "device": "cpu",
                "processes": 1,
                "evaluation": {"every": 0},
                "trackers": [],
            },
        }
    )


def test_both_rewards_of_a_recipe_share_a_judge(server: Server) -> None:
    rewards = build_rewards(recipe(server), torch.device("cpu"))
    concept, wishes = rewards.values()
    assert isinstance(concept, VlmJudgeReward) and isinstance(wishes, VlmJudgeReward)
    assert isinstance(concept, SlowReward) and concept.judge is wishes.judge
    images = [
        Image.new("RGB", (16, 16), (red, green, 9)) for red, green in ((4, 1), (0, 3), (9, 9))
    ]
    tasks = [tiny.a_task(prompt) for prompt in ("a red duck", "a blue duck", "snow")]

    scores = score_images(rewards, images, tasks)
    assert scores.values.dtype == torch.float32
    assert scores.values.tolist() == [[4, 0, 0], [1, 3, 0]]
    assert scores.valid.tolist() == [[True, True, False]] * 2  # no score is 9
    assert len(server.asked) == 2 + 2  # that one is asked for twice
    about = f"no verdict from {server.base_url} about 1 of 3 images"
    problem = f"{about}: no verdict: concept_preservation"
    assert scores.failures["concept"].startswith(problem)
    both = [scores.counts[name] for name in rewards]
    assert sum(counts["requests"] for counts in both) == 4
    assert sum(counts["cost"] for counts in both) == pytest.approx(4000 * 1e-6)

    values, valid = wishes.score([images[1], images[0]], [tasks[1], tasks[0]])
    assert values.tolist() == [3, 1] and valid.all() and len(server.asked) == 4
    empty, none = wishes.score([], [])
    assert empty.shape == none.shape == (0,) and none.dtype == torch.bool
    with pytest.raises(ValueError, match="2 images but 3 tasks"):
        wishes.score(images[:2], tasks)
    with pytest.raises(ValueError, match="image 0 has mode 'L'"):
        wishes.score([images[0].convert("L")], tasks[:1])
    concept.judge.close()


def test_a_recipe_whose_key_is_not_there_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ValueError, match=r"rewards\.concept\.api_key_env: .* JUDGE_KEY is not set"):
        build_rewards(recipe(server, model="other"), torch.device("cpu"))


def test_a_run_leaves_no_key_anywhere(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Against a server that repeats the key wherever it can; two of four images get a verdict."""
    caplog.set_level(logging.DEBUG)
    tiny.tiny_pipeline().save_pretrained("model")
    final = error(400, f"you sent Bearer {KEY}")
    good = iter([(4, 1), (2, 3)])
    server.script = [
        final,
        error(500, f"panic: {KEY}"),
        lambda asked: Told(body=chat(verdict(*next(good), concept_reason=KEY))),
        error(422, f"not with {KEY}"),
    ]
    server.default = lambda asked: Told(body=chat(verdict(*next(good), prompt_reason=KEY)))
    settings = recipe(server, concurrency=1)
    run = train(settings, "run").run
    build_rewards(settings, torch.device("cpu"))["concept"].judge.close()  # type: ignore[attr-defined]

    row = run.read_metrics()[0]
    assert row["reward/concept/missing"] == row["reward/wishes/missing"] == 2
    counts = {name: row[f"reward/concept/{name}"] + row[f"reward/wishes/{name}"] for name in COUNTS}
    assert counts == {"requests": 5, "retries": 1, "prompt_tokens": 2000}
    table = run.read_rewards(1).to_pydict()
    assert sorted(v for v in table["reward/concept"] if v is not None) == [2, 4]
    assert sorted(v for v in table["reward/wishes"] if v is not None) == [1, 3]

    said = [caplog.text, *capfd.readouterr()]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10 and any("[key]" in text for text in said)
    for text in [*said, *(file.read_bytes().decode(errors="replace") for file in files)]:
        assert KEY not in text and json.dumps(KEY)[1:-1] not in text and "SECRET" not in text
    assert all(asked.headers["authorization"] == f"Bearer {KEY}" for asked in server.asked)


COUNTS = ("requests", "retries", "prompt_tokens")
