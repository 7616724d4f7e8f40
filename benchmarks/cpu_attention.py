"""What float32 gradients of attention are worth on a CPU: ratios of alternating pairs in one run.

    OMP_NUM_THREADS=1 python benchmarks/cpu_attention.py --pairs 15

Times the backward pass of attention alone, and forward and backward of the nano generator's
velocities, with torch's own bfloat16 backward and with `likewise.policies.common.cpu_attention`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from likewise import assets
from likewise.data.stickers.world import training_task
from likewise.policies.common.cpu_attention import Float32Backward
from likewise.policies.flux_kontext import FluxKontextPolicy

SHAPE = (4, 144, 32)  # heads, tokens, head size of the nano generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=12, help="images in a micro-batch")
    options = parser.parse_args()
    for name, run in {
        "backward of attention": attention_backward(options.batch),
        "forward and backward of the nano generator": nano_gradients(options.batch),
    }.items():
        ratios = compare(run, options.pairs)
        print(f"{name}: {median(ratios):.2f} of torch's time ({min(ratios):.2f}-{max(ratios):.2f})")


def compare(run: Callable[[bool], float], pairs: int) -> list[float]:
    """Seconds with a float32 backward over seconds with torch's, pair by pair."""
    for warm_up in (False, True):
        run(warm_up)
    return [run(True) / run(False) for _ in range(pairs)]


def attention_backward(batch: int) -> Callable[[bool], float]:
    leaves = [torch.randn(batch, *SHAPE).bfloat16().requires_grad_() for _ in range(3)]
    upstream = torch.randn(batch, *SHAPE).bfloat16()

    def run(wide: bool) -> float:
        with Float32Backward() if wide else nullcontext():
            out = F.scaled_dot_product_attention(*leaves)
        return _seconds(lambda: out.backward(upstream))

    return run


def nano_gradients(batch: int) -> Callable[[bool], float]:
    model = Path(assets.__file__).parent / "nano-kontext"
    policy = FluxKontextPolicy.from_pretrained(model, dtype=torch.bfloat16, height=64, width=64)
    policy.add_lora(16, 16)
    condition = policy.encode([training_task(index) for index in range(batch)])
    noise = policy.initial_noise(range(batch))

    def velocity() -> Tensor:
        return policy.velocity(noise, 0.7, condition)

    def run(wide: bool) -> float:
        policy._compiled = not wide  # which leaves attention to torch
        return _seconds(lambda: velocity().square().mean().backward())

    return run


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
