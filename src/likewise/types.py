"""Plain records that travel between packages. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

KINDS = ("scene", "property", "layout", "combination")  # of tasks


@dataclass(frozen=True)
class Task:
    """One thing to draw: *this* subject (reference) as the prompt says.

    Attributes:
        id: Unique within its dataset.
        prompt: What the image should show, in natural English.
        class_name: Plain name of the subject's class, as in the prompt ("turtle"); "" if unknown.
        subject: Identifier of the individual subject; several tasks share one.
        category: Coarse group for robustness tables ("reptile").
        kind: One of `KINDS`.
        complexity: Number of constraints that the prompt sets, 1–3.
        reference: RGB image that conditions the generator.
        reference_mask: ``L`` image of the same size, 255 on the subject; ``None`` if unknown.
        other_photos: Further RGB images of the same subject, never shown to the generator.
        constraints: What the prompt asks for (``{"scene": "beach"}``); empty if unknown.
        more_references: Further RGB images that condition generators which take several.
    """

    id: str
    prompt: str
    class_name: str
    subject: str
    category: str
    kind: str
    complexity: int
    reference: Image.Image
    reference_mask: Image.Image | None = None
    other_photos: tuple[Image.Image, ...] = ()
    constraints: Mapping[str, str] = field(default_factory=dict)
    more_references: tuple[Image.Image, ...] = ()

    @property
    def references(self) -> tuple[Image.Image, ...]:
        """All images that condition the generator; the first is what rewards compare with."""
        return (self.reference, *self.more_references)

    @property
    def photos(self) -> tuple[Image.Image, ...]:
        """All photos of the subject, the one that conditions first."""
        return (self.reference, *self.other_photos)
