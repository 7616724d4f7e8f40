"""What only shows in use: settings of a config that change no weight, but break the forward."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import nn

from likewise.pretrained.errors import ModelError, one_line
from likewise.pretrained.weights import CONFIG


@contextmanager
def first_use(
    name: str | Path,
    parts: Mapping[str, Any],
    suspect: str,
    passes: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn every failure inside into one line with the config of the part that fails.

    Args:
        name: Of the pipeline, folder or Hub name.
        parts: Of the pipeline, by name. The innermost one on the stack is to blame.
        suspect: The part to blame where none is on the stack.
        passes: Errors that say enough by themselves.

    Raises:
        ModelError: something fails.
        torch.OutOfMemoryError: it fails for want of memory.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (ModelError, torch.OutOfMemoryError, *passes)):
            raise
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        owners = {id(one): part for part, one in parts.items() if one is not None}
        seen = [owners.get(id(frame.f_locals.get("self"))) for frame in frames]
        part = [suspect, *filter(None, seen)][-1]
        file = Path(name, part, _config_of(parts.get(part)))
        raise ModelError(
            f"{file}: what it describes fails at its first use: {one_line(error)}"
        ) from error


def _config_of(part: Any) -> str:
    if isinstance(part, nn.Module):
        return CONFIG
    if isinstance(part, SchedulerMixin):
        return "scheduler_config.json"
    return "tokenizer_config.json"
