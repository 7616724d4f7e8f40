"""One small training loop for every nano model: deterministic data, EMA, resumable, no pickles."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from likewise import tensors as tensor_files
from likewise.records.atomic import write_atomically
from likewise.seeding import derive_seed

Batch = Mapping[str, Tensor]
# (batch, generator) → (scalar to minimise, numbers to log)
LossFunction = Callable[[Batch, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]

STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class FitSettings:
    """How long and how hard to train; the learning rate warms up, then falls linearly."""

    name: str
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    final_rate_share: float = 0.03
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    gradient_clip: float = 1.0
    log_every: int = 100
    save_every: int = 500
    bf16: bool = True
    muon_rate: float | None = None  # learning rate of the matrices of blocks, by Muon; None: AdamW

    def rates(self) -> tuple[float, ...]:
        """Peak learning rate of each optimiser: AdamW's, and Muon's where it is used."""
        return (self.learning_rate, *([] if self.muon_rate is None else [self.muon_rate]))

    def rate_at(self, step: int) -> float:
        """Learning-rate factor in (0, 1] at a step."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        progress = step / self.steps
        return warm * (1.0 - (1.0 - self.final_rate_share) * progress)


@dataclass(frozen=True)
class FitRun:
    """One run of :func:`fit`: where, from what, and for how long.

    Attributes:
        folder: State, log and contact sheets.
        minutes: Stops early, with the state saved; calling again resumes.
        warm_start: Weights to begin with instead of random ones: a folder of finished models.
        compile: Compile the generator's transformer, which takes a minute or two at the start.
    """

    folder: Path
    device: torch.device
    workers: int = 1
    minutes: float | None = None
    warm_start: Path | None = None
    compile: bool = False


@runtime_checkable
class BatchMaker(Protocol):
    """Makes whole batches on the training's device, where worker processes would not keep up."""

    def batch(self, step: int) -> Batch:
        """The batch of a step; depends on the step alone, so that training can be resumed."""
        ...


# Index → sample on the CPU, or step → batch.
DataMaker = Callable[[int], Batch] | BatchMaker


class _Indexed(Dataset[Batch]):
    """Sample `i` depends on `i` alone, so a resumed run sees what it would have seen."""

    def __init__(self, make: Callable[[int], Batch], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return self.make(index)


def batches(
    make: DataMaker, settings: FitSettings, first_step: int, run: FitRun
) -> Iterator[Batch]:
    """Batches of steps `first_step` … end; samples are prepared in worker processes."""
    if isinstance(make, BatchMaker):
        yield from map(make.batch, range(first_step, settings.steps))
        return
    size = settings.batch_size
    loader = DataLoader(
        _Indexed(make, settings.steps * size),
        batch_size=size,
        sampler=range(first_step * size, settings.steps * size),
        num_workers=run.workers,
        prefetch_factor=4 if run.workers else None,
        worker_init_fn=_one_thread if run.workers else None,
    )
    for batch in loader:
        yield {key: value.to(run.device, non_blocking=True) for key, value in batch.items()}


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def start_from(model: Any, folder: Path | None) -> None:
    """Give `model` the weights in `folder`, which must have its shape; nothing without a folder.

    Args:
        model: A diffusers or transformers model.

    Raises:
        ValueError: the weights have another shape (the message names the folder).
    """
    if folder is None:
        return
    try:
        model.load_state_dict(type(model).from_pretrained(folder).state_dict())
    except RuntimeError as error:
        raise ValueError(f"cannot start from {folder}: {error}") from error


def fit(
    model: nn.Module,
    data: DataMaker,
    loss_function: LossFunction,
    settings: FitSettings,
    run: FitRun,
    on_save: Callable[[nn.Module, int], None] | None = None,
) -> bool:
    """Train `model` in place and leave its EMA weights in it.

    Resumes from ``run.folder`` when a state is there. Returns False if the launch ended early
    (`minutes` used up): call again to go on. `on_save(averaged model, step)` is called at every
    save, e.g. to draw a contact sheet.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    model.to(run.device).train()
    ema = AveragedModel(model, multi_avg_fn=_warming_average(settings.ema_decay))
    optimizers = build_optimizers(model, settings)
    step = load_state(run.folder / STATE_FILE, model, ema, optimizers)
    progress = _Progress(settings, run, step)

    for batch in batches(data, settings, step, run):
        numbers = train_step(model, loss_function, optimizers, batch, step, settings)
        ema.update_parameters(model)
        step += 1
        progress.add(step, numbers)
        stop = step == settings.steps or progress.out_of_time()
        if stop or step % settings.save_every == 0:
            save_state(run.folder / STATE_FILE, model, ema, optimizers, step)
            if on_save is not None:
                on_save(ema.module, step)
        if stop:
            break
    model.load_state_dict(ema.module.state_dict())
    model.eval()
    return step == settings.steps


Optimizers = Sequence[torch.optim.Optimizer]


def build_optimizers(model: nn.Module, settings: FitSettings) -> Optimizers:
    """AdamW for all parameters, or Muon (Jordan et al. 2024) for the matrices inside blocks.

    Embeddings, heads, norms and biases stay with AdamW, as Muon's authors advise.
    """
    matrices = []
    if settings.muon_rate is not None:
        matrices = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.ndim == 2 and _BLOCK.search(name) and "relative_attention" not in name
        ]
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    adamw = torch.optim.AdamW(
        others,
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if settings.muon_rate is None:
        return [adamw]
    muon = torch.optim.Muon(
        matrices,
        lr=settings.muon_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [adamw, muon]


# The numbered blocks of diffusers' and transformers' models: "transformer_blocks.0.", "layers.1.".
_BLOCK = re.compile(r"(blocks|layers?|block)\.\d+\.")


def train_step(
    model: nn.Module,
    loss_function: LossFunction,
    optimizers: Optimizers,
    batch: Batch,
    step: int,
    settings: FitSettings,
) -> dict[str, Tensor]:
    """One optimiser step; what to log of it."""
    device = next(model.parameters()).device
    for optimizer, rate in zip(optimizers, settings.rates(), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * settings.rate_at(step)
        optimizer.zero_grad()
    generator = torch.Generator(device).manual_seed(derive_seed(settings.name, "loss", step))
    with (
        torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16),
        _fast_attention(device),
    ):
        loss, numbers = loss_function(batch, generator)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
    for optimizer in optimizers:
        optimizer.step()
    return {"loss": loss, **numbers}


class _Progress:
    """Prints and stores the mean of what each window of steps measured; watches the clock."""

    def __init__(self, settings: FitSettings, run: FitRun, step: int) -> None:
        self.settings, self.run, self.console = settings, run, Console()
        self.log = run.folder / "metrics.jsonl"
        self.started = time.monotonic()
        self._begin_window()
        if step:
            self.console.print(f"{settings.name}: resumed at step {step} of {settings.steps}")
            self._forget_after(step)

    def add(self, step: int, numbers: Mapping[str, Tensor]) -> None:
        self.window += 1
        for key, value in numbers.items():
            self.totals[key] = self.totals.get(key, 0.0) + value.detach().double()
        if step % self.settings.log_every == 0 or step == self.settings.steps:
            self._write(step)
            self._begin_window()

    def out_of_time(self) -> bool:
        minutes = self.run.minutes
        return minutes is not None and time.monotonic() - self.started > 60 * minutes

    def _begin_window(self) -> None:
        self.since, self.window = time.monotonic(), 0
        self.totals: dict[str, float | Tensor] = {}  # on the device: reading one waits for it

    def _forget_after(self, step: int) -> None:
        """Drop what a killed launch logged after its last save: it is done, and logged, again."""
        if self.log.exists():
            lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_atomically(self.log, "".join(kept))

    def _write(self, step: int) -> None:
        means = {key: float(value) / self.window for key, value in self.totals.items()}
        samples = self.window * self.settings.batch_size
        speed = samples / (time.monotonic() - self.since)
        left = (self.settings.steps - step) * self.settings.batch_size / speed / 60
        text = "  ".join(f"{key} {value:.4f}" for key, value in means.items())
        self.console.print(
            f"{self.settings.name} {step}/{self.settings.steps}  {text}  "
            f"{speed:.0f}/s  {left:.1f} min left"
        )
        row = {"step": step, "samples": samples, "samples_per_second": speed, **means}
        with self.log.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")


Weights = tuple[Tensor, ...] | list[Tensor]


def _warming_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Exponential average whose decay grows to `decay`, so that early averages are of use too."""

    @torch.no_grad()
    def update(averages: Weights, current: Weights, seen: Tensor | int) -> None:
        count = float(seen)
        share = 1.0 - min(decay, (1.0 + count) / (10.0 + count))
        torch._foreach_lerp_(averages, current, share)

    return update


def _fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """On CPUs the fused attention's backward pass takes half of a nano model's whole step.

    On GPUs, torch's own choice ended in an illegal memory access in the backward pass (torch 2.11,
    H200); with these two the same training ran.
    """
    if device.type == "cpu":
        return sdpa_kernel(SDPBackend.MATH)
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])


def save_state(
    path: Path, model: nn.Module, ema: AveragedModel, optimizers: Optimizers, step: int
) -> None:
    """Write weights, averages and optimiser moments to one safetensors file, atomically."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"ema.{key}": value for key, value in ema.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            prefix = f"optimizer.{number}.{index}"
            tensors |= {f"{prefix}.{key}": value for key, value in moments.items()}
    # Tied weights share memory, which safetensors refuses: store independent copies.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    temporary = path.with_suffix(".tmp")
    tensor_files.save(tensors, temporary, {"step": str(step)})
    os.replace(temporary, path)


def stored_step(path: Path) -> int:
    """The step of a stored state; 0 when there is none.

    Raises:
        ValueError: the file is damaged (the message names it and says what to do).
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["step"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"training state is damaged: {path} ({error}); delete it to train from the start"
    )


def load_state(path: Path, model: nn.Module, ema: AveragedModel, optimizers: Optimizers) -> int:
    """Restore what :func:`save_state` wrote and return its step; 0 when there is nothing.

    Raises:
        ValueError: the file is damaged (the message names it and says what to do).
    """
    if not path.exists():
        return 0
    step = stored_step(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict: it has no __iter__
                part, _, key = name.partition(".")
                parts[part][key] = file.get_tensor(name)
    except (SafetensorError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    model.load_state_dict(parts["model"])
    ema.load_state_dict(parts["ema"])
    moments: dict[tuple[int, int], dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        own, index, key = name.split(".")
        moments.setdefault((int(own), int(index)), {})[key] = value
    for number, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()
        state["state"] = {at[1]: moment for at, moment in moments.items() if at[0] == number}
        optimizer.load_state_dict(state)
    return step
