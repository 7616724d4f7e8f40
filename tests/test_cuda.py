"""What a GPU could get wrong: run there with `pytest -m cuda`; elsewhere these tests are skipped.

``LIKEWISE_TEST_DEVICE=cpu`` runs them without a GPU, which says that the tests themselves work.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn

from likewise.algorithm.transitions import ode
from likewise.api import train
from likewise.builders.policies import build_policy
from likewise.builders.rewards import build_rewards
from likewise.config import load_recipe
from likewise.data.stickers.world import bench_tasks, truth
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.pretrain.loop import STATE_FILE, FitRun, FitSettings, fit, stored_step
from likewise.protocols import Policy
from likewise.trainer.kernels import CUBLAS

os.environ.setdefault(CUBLAS, ":4096:8")  # torch looks once, at its first product on the GPU
DEVICE = torch.device(os.environ.get("LIKEWISE_TEST_DEVICE", "cuda"))
CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"
    ),
]
TASKS = bench_tasks()[::240]  # of several kinds
TINY_RUN = [
    *("rollout.tasks=2", "rollout.group_size=4", "rollout.micro_batch=8", "run.iterations=2"),
    *("run.processes=1", "run.evaluation.every=0", "run.trackers=[]", f"run.device={DEVICE}"),
]


def nano_policy(device: torch.device, trainable: bool = False) -> Policy:
    return build_policy(load_recipe("stickers", ["policy.dtype=float32"]), device, trainable)


@torch.no_grad()
def drawn(policy: Policy) -> Tensor:
    condition, x = policy.encode(TASKS), policy.initial_noise(range(len(TASKS)))
    for sigma, sigma_next in pairwise(policy.sigmas(4, None)):
        x, _ = ode(x, policy.velocity(x, sigma, condition), sigma, sigma_next)
    return policy.decode(x).cpu()


def test_noise_is_the_same_on_every_device() -> None:
    there, here = (nano_policy(device).initial_noise([5, 6]) for device in (DEVICE, CPU))
    assert there.device.type == DEVICE.type
    assert torch.equal(there.cpu(), here)


def test_images_are_those_of_the_cpu() -> None:
    """A few steps in float32, to a quarter of a pixel's smallest step on average."""
    difference = (drawn(nano_policy(DEVICE)) - drawn(nano_policy(CPU))).abs()
    assert difference.mean() < 1e-3


def test_drawing_is_the_stock_pipelines() -> None:
    pipeline = tiny.tiny_pipeline().to(DEVICE)
    pipeline.set_progress_bar_config(disable=True)
    size = (tiny.HEIGHT_PIXELS, tiny.WIDTH_PIXELS, tiny.TEXT_LENGTH)
    policy, task = FluxKontextPolicy(pipeline, *size), tiny.a_task()
    with torch.no_grad():
        condition, x = policy.encode([task]), policy.initial_noise([11])
        for sigma, sigma_next in pairwise(policy.sigmas(4, None)):
            x, _ = ode(x, policy.velocity(x, sigma, condition), sigma, sigma_next)
    stock = pipeline(
        image=task.reference,
        prompt=task.prompt,
        height=tiny.HEIGHT_PIXELS,
        width=tiny.WIDTH_PIXELS,
        max_area=tiny.HEIGHT_PIXELS * tiny.WIDTH_PIXELS,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(11),
        max_sequence_length=tiny.TEXT_LENGTH,
        output_type="latent",
        _auto_resize=False,
    ).images
    torch.testing.assert_close(x, stock, atol=1e-5, rtol=1e-5)


def test_rewards_are_those_of_the_cpu_in_any_batch() -> None:
    recipe = load_recipe("stickers")
    images = [truth(task).image for task in TASKS]
    here, there = build_rewards(recipe, CPU), build_rewards(recipe, DEVICE)
    for name in here:
        wanted, _ = here[name].score(images, TASKS)
        together, valid = there[name].score(images, TASKS)
        alone = [there[name].score([i], [t])[0] for i, t in zip(images, TASKS, strict=True)]
        assert valid.all()
        torch.testing.assert_close(together.cpu(), wanted, atol=2e-3, rtol=0.0)
        torch.testing.assert_close(torch.cat(alone), together, atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_demo_recipe_learns_from_ratios_of_one(dtype: str, tmp_path: Path) -> None:
    """The trainer refuses to start with others: the recipe's tolerance is 0. Updates that are
    skipped have gradients that are not finite, as cuDNN's attention gave them."""
    recipe = load_recipe("stickers", [*TINY_RUN, f"policy.dtype={dtype}"])
    rows = train(recipe, tmp_path / "run", quiet=True).run.read_metrics()
    assert [row["update/skipped"] for row in rows if "update/skipped" in row] == [0, 0]


def test_equal_runs_are_equal_bit_for_bit(tmp_path: Path) -> None:
    recipe = load_recipe("stickers", [*TINY_RUN, "policy.dtype=bfloat16", "run.deterministic=true"])
    one, other = (
        train(recipe, tmp_path / name, quiet=True).run.checkpoints for name in ("one", "other")
    )
    files = [file.relative_to(one) for file in one.rglob("adapter/*.safetensors")]
    assert files and all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


@pytest.mark.parametrize("backend", ["_native_flash", "_native_efficient"])
def test_kernels_that_want_one_dtype_learn_too(backend: str, tmp_path: Path) -> None:
    """Autocast's norms are float32 on a GPU, which flash attention refuses beside bfloat16."""
    if DEVICE.type == "cpu" and backend == "_native_efficient":
        pytest.skip("the CPU has no such kernel")
    changes = ["policy.dtype=bfloat16", f"policy.attention={backend}"]
    recipe = load_recipe("stickers", [*TINY_RUN, *changes])
    rows = train(recipe, tmp_path / "run", quiet=True).run.read_metrics()
    assert [row["update/skipped"] for row in rows if "update/skipped" in row] == [0, 0]


def test_an_adapter_draws_the_same_elsewhere(tmp_path: Path) -> None:
    there = nano_policy(DEVICE, trainable=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as if trained: a fresh LoRA changes nothing
        for parameter in there.trainable_parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(DEVICE)
    there.save_adapter(tmp_path)
    here = nano_policy(CPU, trainable=True)
    before = drawn(here)
    here.load_adapter(tmp_path)
    after = drawn(here)
    assert (after - drawn(there)).abs().mean() < 1e-3 < (after - before).abs().mean()


def test_pretraining_goes_on_from_its_state(tmp_path: Path) -> None:
    settings = FitSettings("line", steps=6, batch_size=4, learning_rate=1e-2, save_every=1)

    def sample(index: int) -> dict[str, Tensor]:
        x = torch.randn(3, generator=torch.Generator().manual_seed(index))
        return {"x": x, "y": x.sum()[None]}

    def run(folder: Path, minutes: float | None = None) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss(batch, generator):
            noise = torch.randn(1, generator=generator, device=generator.device)
            return (model(batch["x"]).float() - batch["y"] + 0.01 * noise).square().mean(), {}

        fit(model, sample, loss, settings, FitRun(folder, DEVICE, 0, minutes))
        return model.weight.detach().cpu()

    whole = run(tmp_path / "whole")
    run(tmp_path / "pieces", minutes=1e-9)
    assert stored_step(tmp_path / "pieces" / STATE_FILE) == 1
    torch.testing.assert_close(run(tmp_path / "pieces"), whole)
