"""Less noise from libraries that load models."""

from __future__ import annotations

import diffusers
import transformers
from huggingface_hub.utils import enable_progress_bars


def be_quiet() -> None:
    """No progress bars for loading what is on the disk already; downloads keep theirs."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # takes the bars of downloads along
    enable_progress_bars()
