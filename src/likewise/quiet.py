"""Less noise from libraries: what they say that no user of likewise can act on.

Importing this module imports none of them.
"""

from __future__ import annotations

import logging
import os

# Read when the libraries are imported, and inherited by the processes that a run starts. Of models
# they would warn of weights and processors, which `likewise.pretrained` checks by itself.
ERRORS_ONLY = ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY")

# Logger → words of its messages that are dropped. diffusers imports bitsandbytes and torchao
# wherever they are installed, and both warn of what belongs to other machines or other uses.
NOISE = {
    # A kernel for 4-bit weights on CPUs, where policy.quantization does without bitsandbytes.
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    "torchao": "Failed to load ",  # compiled kernels for other GPUs than this machine has
    "torch.utils._pytree": "is an Enum subclass",  # a call inside torchao that is deprecated
}


class _Without(logging.Filter):
    """Drops messages of one logger that contain certain words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()


def hush_imports() -> None:
    """Before transformers and diffusers are imported: let them import other libraries silently.

    What the environment says already stays. Calling it again changes nothing.
    """
    for name in ERRORS_ONLY:
        os.environ.setdefault(name, "error")
    for name, words in NOISE.items():
        logger = logging.getLogger(name)
        if not any(isinstance(one, _Without) for one in logger.filters):
            logger.addFilter(_Without(words))


def hide_file_bars() -> None:
    """No progress bars for reading and writing models; downloads keep theirs."""
    import diffusers
    import transformers
    from huggingface_hub.utils import enable_progress_bars

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # takes the bars of downloads along
    enable_progress_bars()
