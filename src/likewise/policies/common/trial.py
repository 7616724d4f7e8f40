"""One image through everything that a policy does, right after it is loaded.

Some settings of a config change no weight, so that a wrong one loads and fails in the first forward
(``axes_dims_rope: null`` of a FLUX transformer). Here it fails with the name of its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from likewise.policies.common.encoded import EncodedBatch, EncodedTask
from likewise.pretrained.first_use import first_use

PROMPT = "a picture"
SMALLEST = 64  # pixels of a side: smaller references are refused by some models


@torch.no_grad()
def try_out(policy: Any, name: str | Path, height: int, width: int) -> None:
    """Encode a prompt and a grey reference, predict one velocity, and decode.

    Args:
        policy: A `PipelinePolicy`.
        name: What it was loaded from, for messages.
        height, width: Of what it draws, pixels; 0 if unknown.

    Raises:
        ModelError: something fails; the message names the config of the part that did.
        torch.OutOfMemoryError: the device has no room for a single image.
    """
    parts = policy.pipeline.components
    size = (max(SMALLEST, width), max(SMALLEST, height))
    images = (Image.new("RGB", size, "grey"),)
    with torch.compiler.set_stance("force_eager"):  # a program of its own for this would take long
        with first_use(name, parts, "text_encoder"):
            text = policy.embed_text(PROMPT, images)
        with first_use(name, parts, "vae"):
            references = policy.embed_references(images)
        with first_use(name, parts, "scheduler"):
            sigma = policy.sigmas(2)[0]
        with first_use(name, parts, policy.denoiser_name):
            task = EncodedTask(text, references, text if policy.guidance.enabled else None)
            velocity = policy.velocity(policy.initial_noise([0]), sigma, EncodedBatch((task,)))
        with first_use(name, parts, "vae"):
            policy.decode(velocity)
