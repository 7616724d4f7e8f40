"""The shipped nano models: stock libraries load them, and they do what their cards say.

Thresholds are well below the measured values (see the cards): they catch a broken or swapped file,
not a percent.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from likewise import assets
from likewise.data.stickers.art import shipped_art
from likewise.data.stickers.rendering import Spec, render
from likewise.data.stickers.world import asked_for, bench_tasks, individual, truth
from likewise.pretrain.samples import rival
from likewise.pretrain.sampling import generate, load_pipeline
from likewise.rewards.clip import ClipReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.seeding import numpy_rng
from likewise.types import KINDS, Task

STOCK_DIFFUSERS = """
import sys, torch
from diffusers import FluxKontextPipeline
from PIL import Image

pipeline = FluxKontextPipeline.from_pretrained(sys.argv[1])
images = pipeline(
    image=Image.open(sys.argv[2]), prompt="a turtle on the left", height=64, width=64,
    max_area=64 * 64, num_inference_steps=10, _auto_resize=False, max_sequence_length=16,
    num_images_per_prompt=6, generator=torch.Generator().manual_seed(0),
).images
for number, image in enumerate(images):
    image.save(f"{sys.argv[3]}/{number}.png")
assert "likewise" not in sys.modules
"""


@pytest.fixture(scope="module")
def some_tasks() -> list[Task]:
    """Every 6th bench task: 125, all subjects, every kind."""
    return bench_tasks()[::6]


def test_stock_diffusers_loads_the_generator_and_draws(tmp_path: Path) -> None:
    turtle = next(task for task in bench_tasks() if task.subject == "turtle")
    turtle.reference.save(tmp_path / "reference.png")
    arguments = [assets.path("nano-kontext"), tmp_path / "reference.png", tmp_path]
    command = [sys.executable, "-c", STOCK_DIFFUSERS, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
    drawn = [Image.open(tmp_path / f"{number}.png").convert("RGB") for number in range(6)]
    assert all(image.size == (64, 64) for image in drawn)
    seen = PromptEvaluator(assets.path("evaluator-prompt")).attributes(drawn)
    assert sum(look["place"] == "left" for look in seen) >= 5


@pytest.mark.slow
def test_the_generator_beats_both_trivial_cheats(some_tasks) -> None:
    identity = IdentityEvaluator(assets.path("evaluator-identity"), asked_for=asked_for)
    prompt = PromptEvaluator(assets.path("evaluator-prompt"))

    def evaluated(images: list[Image.Image]) -> tuple[float, float]:
        values, _ = identity.score(images, some_tasks)
        shares, _ = prompt.score(images, some_tasks)
        return float(values.mean()), float((shares == 1).float().mean())

    pipeline = load_pipeline(assets.path("nano-kontext"), torch.device("cpu"))
    drawn = evaluated(generate(pipeline, some_tasks))
    text_only = evaluated(generate(pipeline, some_tasks, with_reference=False))
    pasted = evaluated([task.reference for task in some_tasks])
    assert pasted[1] < 0.1  # copying: no prompt
    assert text_only[0] < drawn[0] - 0.3  # ignoring the reference: little identity
    assert sum(drawn) > sum(pasted) + 0.3 and sum(drawn) > sum(text_only) + 0.3
    assert drawn[0] > 0.65 and 0.6 < drawn[1] < 0.9  # something to win on both sides


def test_evaluators_recognise_perfect_images_and_refuse_rivals(some_tasks) -> None:
    images = [truth(task).image for task in some_tasks]
    shares, valid = PromptEvaluator(assets.path("evaluator-prompt")).score(images, some_tasks)
    assert valid.all() and (shares == 1).float().mean() > 0.85
    evaluator = IdentityEvaluator(assets.path("evaluator-identity"), asked_for=asked_for)
    perfect, _ = evaluator.score(images, some_tasks)
    for kind in KINDS:  # near 1 for every kind of prompt: obeying one costs no identity
        rows = [row for row, task in enumerate(some_tasks) if task.kind == kind]
        assert perfect[rows].mean() > 0.9
    rivals = []
    for task in some_tasks:
        other = rival(individual(task.subject), numpy_rng("rival", task.id))
        spec = Spec(task.subject, variant=other, **task.constraints)
        rivals.append(render(shipped_art(), spec, numpy_rng("drawing", task.id)).image)
    other_marks, _ = evaluator.score(rivals, some_tasks)
    assert other_marks.mean() < perfect.mean() - 0.3  # only the mark is wrong
    assert (other_marks < perfect).float().mean() > 0.95


def test_identity_reward_is_entangled_and_still_knows_subjects(some_tasks) -> None:
    reward = DinoReward(assets.path("nano-dinov2"))
    scenes = [task for task in some_tasks if task.kind == "scene"]
    copies, _ = reward.score([task.reference for task in scenes], scenes)
    same, _ = reward.score([truth(task).image for task in scenes], scenes)
    other, _ = reward.score([truth(task).image for task in scenes[::-1]], scenes)
    torch.testing.assert_close(copies, torch.ones(len(scenes)), atol=1e-4, rtol=0)
    assert 0.5 < same.mean() < 0.9
    assert other.mean() < same.mean() - 0.2


def test_prompt_reward_prefers_what_was_asked_for(some_tasks) -> None:
    reward = ClipReward(assets.path("nano-clip"))
    right, _ = reward.score([truth(task).image for task in some_tasks], some_tasks)
    pasted, _ = reward.score([task.reference for task in some_tasks], some_tasks)
    assert (right > pasted).float().mean() > 0.8


def test_everything_shipped_is_small_and_has_a_card() -> None:
    total = sum(
        file.stat().st_size
        for name in assets.names()
        for file in assets.path(name).rglob("*")
        if file.is_file()
    )
    assert total <= 30 * 2**20
    art = sum(file.stat().st_size for file in shipped_art().folder.iterdir())
    assert total + art <= 40 * 2**20
    for name in assets.names():
        card = (assets.path(name) / "README.md").read_text(encoding="utf-8")
        assert "likewise pretrain" in card and "held-out" in card
        assert not list(assets.path(name).rglob("*.bin"))
