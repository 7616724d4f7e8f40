"""An iteration of FLUX.1 Kontext's size with random weights: time, memory and matmul rate.

    python benchmarks/flux_size.py --out benchmarks/results/DATE-flux-size.json     # needs 80 GB
    python benchmarks/flux_size.py --quantization torchao-int8 --only kontext
    python benchmarks/flux_size.py --tiny --device cpu                              # a rehearsal

Denoiser and VAE have the shapes of FLUX.1-Kontext-dev, in bfloat16, and a LoRA. Text embeddings are
zeros and rewards are random numbers, so that neither T5 nor reward models are in time and memory.
Every iteration trains the same steps: the first one warms up and counts operations, recomputed ones
included, and the others are timed. Memory is compared with what `--dry-run` plans for these parts.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from credit_cost import Cost, forget_peak, iterate
from iteration import hardware, write
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from likewise.api.dry_run import Planner
from likewise.api.training import settle
from likewise.assets import architectures
from likewise.builders.policies import add_adapter, build_sampler
from likewise.config import Recipe, load_recipe
from likewise.footprint.meta import weightless_pipeline
from likewise.policies.common.encoded import Tensors
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.records import RunDirectory
from likewise.records.environment import collect_environment
from likewise.trainer.kernels import no_cudnn_attention
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.session import Session
from likewise.types import Task

RECIPES = ("kontext", "kontext-nft")
MODEL = "black-forest-labs/FLUX.1-Kontext-dev"
SHAPE = (  # of both, so that they compare; images are 512² as in the recipes
    *("rollout.tasks=1", "rollout.group_size=12", "rollout.micro_batch=4"),
    *("run.processes=1", "run.threads=1", "run.evaluation.every=0", "run.trackers=[]"),
    *("data={kind: stickers}", "optimizer.ema_decay=null"),
)
WINDOW = "rollout.trained={kind: window, size: 2, first: 1, last: 1}"
TINY = (
    *("policy.height=64", "policy.width=64", "policy.max_sequence_length=8"),
    *("rollout.num_steps=4", "adapter.rank=4", "rollout.group_size=4"),
)
SMALL = {  # configs of --tiny, over those of the real model
    "transformer": {
        **{"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2},
        **{"attention_head_dim": 16, "axes_dims_rope": [4, 6, 6]},
        **{"joint_attention_dim": 32, "pooled_projection_dim": 32},
    },
    "vae": {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1},
    "text_encoder_2": {"num_layers": 1, "d_model": 32, "d_ff": 32, "num_heads": 2, "d_kv": 16},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    device = torch.device(options.device)
    found: dict[str, Any] = {**collect_environment(), "hardware": hardware(device)}
    found["matmul tflops"] = matmul_rate(device, 256 if options.tiny else 8192) / 1e12
    write(found, options.out)
    with tempfile.TemporaryDirectory() as folder, no_cudnn_attention():
        bench = Bench(options, Path(folder), found["matmul tflops"])
        for name in options.only:
            gc.collect()  # of the run before, which refers to itself
            found[name] = bench.measure(name)
            write(found, options.out)  # a machine that is taken away keeps what was measured
        for name in options.only:  # takes a minute on the CPU
            found[name] |= bench.plan(name, found[name]["peak gib"])
            write(found, options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=RECIPES, choices=RECIPES)
    parser.add_argument("--iterations", type=int, default=2, help="to time, after the first")
    parser.add_argument("--quantization", choices=["torchao-int8"], help="of the frozen weights")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of the same classes")
    parser.add_argument("--out", type=Path, help="a JSON file; default: print")
    parser.add_argument("overrides", nargs="*", help="of the recipes, as in rollout.micro_batch=6")
    return parser.parse_args(arguments)


class BlankTexts(FluxKontextPolicy):
    """Zeros in place of what the text encoders, which are not there, would make of a prompt."""

    def encode_text(self, prompt: str, references: Sequence[Image.Image] = ()) -> Tensors:
        return self.blank_texts()


class RandomReward:
    """Numbers that follow from nothing."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        values = torch.rand(len(images), generator=self.generator)
        return values, torch.ones(len(images), dtype=torch.bool)


class Bench:
    """One model on the device, and an iteration of each recipe with it."""

    def __init__(self, options: argparse.Namespace, folder: Path, matmul_tflops: float) -> None:
        self.options, self.folder, self.matmul_tflops = options, folder, matmul_tflops
        self.model = shrink(folder / "model") if options.tiny else architectures.folder(MODEL)
        self.processes = Processes(Accelerator(cpu=options.device == "cpu"))
        self.planner = Planner(gpu=self.processes.device.type == "cuda")
        recipe = self.recipe(options.only[0])
        self.policy = random_policy(recipe, self.model, self.processes.device, options.quantization)
        add_adapter(recipe, self.policy)

    def recipe(self, name: str) -> Recipe:
        changes = [*SHAPE, f"policy.model={self.model}", f"run.device={self.options.device}"]
        changes += [*(TINY if self.options.tiny else ()), *([WINDOW] if name == "kontext" else [])]
        if self.options.quantization:
            changes.append(f"policy.quantization={self.options.quantization}")
        return settle(load_recipe(name, [*changes, *self.options.overrides]))

    def measure(self, name: str) -> dict[str, Any]:
        """Medians of the timed iterations."""
        recipe, device = self.recipe(name), self.processes.device
        rewards = {one: RandomReward(seed) for seed, one in enumerate(recipe.rewards)}
        size = (recipe.policy.width, recipe.policy.height)
        sampler = build_sampler(recipe, self.policy)
        parts = Parts(self.policy, sampler, rewards, lambda index: blank_task(index, size), [], {})
        run = RunDirectory.create(self.folder / name, recipe, {})
        session = Session(recipe, run, parts, self.processes)
        # On the CPU, as no run has such a copy.
        start = [one.detach().clone().cpu() for one in session.learner.parameters]
        with FlopCounterMode(display=False) as counter, counted_tokens(self.policy) as tokens:
            first = iterate(session, 1, start)
        forget_peak(device)
        costs = [iterate(session, 2 + n, start) for n in range(self.options.iterations)]
        found = summary(costs, first, counter.get_total_flops(), sum(tokens))
        found["share of matmul rate"] = found["tflops"] / self.matmul_tflops
        if not recipe.objective.forward:
            found["ratio deviation"] = ratio_deviation(session)
        peaks = [one.peak for one in costs if one.peak is not None]
        counts = device.type == "cuda" and peaks  # a CPU's allocator does not count
        return found | {"peak gib": max(peaks) / 2**30 if counts else None}

    def plan(self, name: str, peak: float | None) -> dict[str, float]:
        """Planned peak in GiB of what is on the device here, and the measured share of it."""
        needs = self.planner.memory(self.recipe(name)).needs
        encoders = {"vae": needs.encoders["vae"]}
        planned = replace(needs, encoders=encoders, rewards={}, extra=0).peak / 2**30
        found = {"planned gib": planned}
        return found if peak is None else found | {"peak of planned": peak / planned}


def ratio_deviation(session: Session) -> float | None:
    """Largest |ratio − 1| of a micro-batch that is drawn and replayed with the same weights."""
    batch = session.rollouts.first_batch(1, session.tasks(1), session.plan(1))
    return None if batch is None else session.update.ratio_deviation(batch)


def summary(costs: Sequence[Cost], first: Cost, flops: int, tokens: int) -> dict[str, Any]:
    seconds = median(one.seconds for one in costs)
    return {
        "seconds": seconds,
        "seconds of each": [one.seconds for one in costs],
        "seconds of the first": first.seconds,
        "phases": {name: median(one.phases[name] for one in costs) for name in first.phases},
        "tokens": tokens,
        "tokens per second": tokens / seconds,
        "tflop": flops / 1e12,
        "tflops": flops / seconds / 1e12,
    }


def random_policy(
    recipe: Recipe, model: Path, device: torch.device, quantization: str | None
) -> FluxKontextPolicy:
    """The policy of a recipe with random weights, and without text encoders."""
    pipeline = weightless_pipeline(model, torch.bfloat16)
    pipeline.register_modules(text_encoder=None, text_encoder_2=None)
    for part in (pipeline.transformer, pipeline.vae):
        fill(part.to_empty(device=device))
    if quantization is not None:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(pipeline.transformer, Int8WeightOnlyConfig())
    settings = recipe.policy.model_dump(exclude={"kind", "model", "dtype", "quantization"})
    return BlankTexts(pipeline, dtype=torch.bfloat16, **settings)


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Random weights that keep the size of what goes through them."""
    generator = torch.Generator(next(module.parameters()).device).manual_seed(0)
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5, generator=generator)
        else:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)


@contextmanager
def counted_tokens(policy: FluxKontextPolicy) -> Iterator[list[int]]:
    """Tokens of every forward of the denoiser: of text, image and reference, over the batch."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: object, named: Mapping[str, Tensor]) -> None:
        image, text = named["hidden_states"], named["encoder_hidden_states"]
        counts.append(len(image) * (image.shape[1] + text.shape[1]))

    hook = policy.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        hook.remove()


def blank_task(index: int, size: tuple[int, int]) -> Task:
    return Task(
        id=str(index),
        prompt="a thing in a place",
        class_name="thing",
        subject="thing",
        category="object",
        kind="scene",
        complexity=1,
        reference=Image.new("RGB", size, "grey"),
    )


def matmul_rate(device: torch.device, side: int, repeats: int = 20) -> float:
    """Operations per second of a product of two square matrices in bfloat16."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def seconds() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        for _ in range(repeats):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    seconds()
    return repeats * 2 * side**3 / seconds()


def shrink(folder: Path) -> Path:
    """The model's configs with small numbers in them."""
    shutil.copytree(architectures.folder(MODEL), folder)
    for part, changes in SMALL.items():
        file = folder / part / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


if __name__ == "__main__":
    main()
