"""How many training steps fit into a given time, on a machine of unknown speed."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from typing import TypeVar

from torch import nn

from likewise.pretrain.loop import (
    STATE_FILE,
    DataMaker,
    FitRun,
    FitSettings,
    LossFunction,
    batches,
    build_optimizers,
    stored_step,
    train_step,
)

# Shares of the time that `fill_time` measures, and plans for: the rest is for saves, and for a
# speed that drops.
MEASURED_SHARE, PLANNED_SHARE = 0.02, 0.93

Settings = TypeVar("Settings", bound=FitSettings)


def fill_time(
    model: nn.Module,
    data: DataMaker,
    loss_function: LossFunction,
    settings: Settings,
    run: FitRun,
    minutes_per_save: float = 1.0,
) -> tuple[Settings, FitRun]:
    """`settings` with as many steps as fit into ``run.minutes``, and the time that is left.

    The learning-rate schedule then ends when the time does, on a machine of unknown speed. Steps of
    a state in ``run.folder`` count as done; the new ones are added to them.

    Args:
        data: Asked for the batches of its first steps; nothing is learnt from them.
        minutes_per_save: How often to save.

    Raises:
        ValueError: ``run.minutes`` is None.
    """
    if run.minutes is None:
        raise ValueError("how many steps fit in is a question of time: set minutes")
    begun = time.monotonic()
    per_step = _seconds_per_step(
        model, data, loss_function, settings, run, 60 * MEASURED_SHARE * run.minutes
    )
    left = run.minutes - (time.monotonic() - begun) / 60
    new = max(1, int(PLANNED_SHARE * left * 60 / per_step))
    settings = dataclasses.replace(
        settings,
        steps=stored_step(run.folder / STATE_FILE) + new,
        save_every=max(1, round(60 * minutes_per_save / per_step)),
    )
    return settings, dataclasses.replace(run, minutes=left)


def _seconds_per_step(
    model: nn.Module,
    data: DataMaker,
    loss_function: LossFunction,
    settings: FitSettings,
    run: FitRun,
    seconds: float,
) -> float:
    """Median over the later half of so many seconds; `model` forgets them again.

    A GPU works while the next steps are prepared, so there the time is taken of several at once.
    """
    model.to(run.device).train()
    before = copy.deepcopy(model.state_dict())
    optimizers = build_optimizers(model, settings)
    together, fewest = (1, 3) if run.device.type == "cpu" else (8, 8)
    times: list[float] = []
    begun = started = time.monotonic()
    for step, batch in enumerate(batches(data, settings, 0, run), start=1):
        numbers = train_step(model, loss_function, optimizers, batch, step - 1, settings)
        if step % together:
            continue
        float(numbers["loss"].detach())  # waits until the device is done
        times.append((time.monotonic() - started) / together)
        started = time.monotonic()
        if len(times) >= fewest and started - begun > seconds:
            break
    model.load_state_dict(before)
    return statistics.median(times[len(times) // 2 :])
