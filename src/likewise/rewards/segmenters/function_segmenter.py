"""Any Python function as a segmenter: ``(images, class_names) -> masks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from likewise.rewards.common.inputs import check_images
from likewise.rewards.segmenters.masks import check_mask, is_empty


class FunctionSegmenter:
    """Implements `Segmenter` with a function that takes and returns what ``masks`` does.

    A mask that shows nothing counts as ``None``. It knows every class: the function gets all names,
    "" too.

    Args:
        function: Of B RGB images and their B class names.
        name: Of the function, for messages.
    """

    def __init__(self, function: Callable[..., Any], name: str = "the segmenter") -> None:
        self.function = function
        self.name = name

    def knows(self, class_name: str) -> bool:
        """See `Segmenter`; always true."""
        return True

    def masks(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> Sequence[Image.Image | None]:
        """See :class:`likewise.rewards.segmenters.masks.Segmenter`.

        Raises:
            ValueError: the function did not return one mask or ``None`` per image, or one that is
                not ``L`` or not of its image's size (the message names it).
            Exception: whatever the function raises.
        """
        check_images(images)
        answer = self.function(list(images), list(class_names))
        if not isinstance(answer, Sequence) or len(answer) != len(images):
            count = f"{len(answer)} of them" if isinstance(answer, Sequence) else repr(type(answer))
            raise ValueError(
                f"{self.name}: wanted a list of {len(images)} masks, one per image, not {count}"
            )
        for index, (mask, image) in enumerate(zip(answer, images, strict=True)):
            if mask is not None:
                check_mask(mask, image.size, f"{self.name}: mask {index}")
        return [None if mask is None or is_empty(mask) else mask for mask in answer]
