"""Image processors and tokenizers.

Image processors are always transformers' PIL ones. By default it takes torchvision's where that is
installed, which resize differently: rewards and metrics would change with a package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer
from transformers.image_processing_backends import PilBackend

from likewise.pretrained.errors import ModelError, loading
from likewise.pretrained.weights import check_documents

MOST_PIXELS = 16_384  # along a side of what a processor makes


def load_image_processor(name: str | Path, subfolder: str = "") -> Any:
    """The image processor of a folder or Hub name, working with PIL.

    Raises:
        OSError: there is none.
        ModelError: it is damaged, makes absurdly large images, or transformers has no PIL version
            of it.
    """
    processor = _load(AutoImageProcessor, "image processor", name, subfolder, backend="pil")
    if not isinstance(processor, PilBackend):
        raise ModelError(
            f"{name}: {type(processor).__name__} works with torchvision only, which would make "
            "results depend on what is installed"
        )
    for setting in ("size", "crop_size"):
        sides = dict(getattr(processor, setting, None) or {})
        for side in (sides.get("height"), sides.get("width")):
            if side is not None and not 0 < side <= MOST_PIXELS:
                raise ModelError(
                    f"{name}: its image processor's {setting} is {sides}; a side must be between "
                    f"1 and {MOST_PIXELS} pixels"
                )
    return processor


def load_tokenizer(name: str | Path, subfolder: str = "") -> Any:
    """The tokenizer of a folder or Hub name.

    Raises:
        OSError: there is none.
        ModelError: it is damaged.
    """
    return _load(AutoTokenizer, "tokenizer", name, subfolder)


def _load(kind: Any, noun: str, name: str | Path, subfolder: str, **options: Any) -> Any:
    folder = Path(name, subfolder)
    if folder.is_dir():
        check_documents(folder)
    with loading(f"{folder}: its {noun}"):
        return kind.from_pretrained(
            str(name),
            trust_remote_code=False,
            **({"subfolder": subfolder} if subfolder else {}),
            **options,
        )
