"""Sample grids in the trackers that a run logs to; numbers go there through Accelerate."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate.tracking import GeneralTracker
from PIL import Image

SAMPLES = "samples"


def log_grid(trackers: Sequence[GeneralTracker], grid: Image.Image, iteration: int) -> None:
    """Show the grid of an evaluation in every tracker, on the main process."""
    for tracker in trackers:
        if tracker.name == "tensorboard":
            images = np.asarray(grid.convert("RGB"))[None]  # [1, H, W, 3]
            tracker.log_images({SAMPLES: images}, step=iteration, dataformats="NHWC")
        else:
            tracker.log({SAMPLES: _own_image(tracker.name, grid)}, step=iteration)


def _own_image(tracker: str, image: Image.Image) -> Any:
    """As W&B and trackio want it: in a class of theirs, both called Image."""
    return importlib.import_module(tracker).Image(image)
