"""The JSON document of a request, which describes its images and their tasks."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from likewise.types import Task


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Item(_Strict):
    """One image and its task; images are given as indices of the request's files.

    Fields beside `image` are those of :class:`likewise.types.Task`.
    """

    image: NonNegativeInt
    id: str
    prompt: str
    class_name: str
    subject: str
    category: str
    kind: str
    complexity: int
    reference: NonNegativeInt
    reference_mask: NonNegativeInt | None = None
    other_photos: list[NonNegativeInt] = []
    constraints: dict[str, str] = {}
    more_references: list[NonNegativeInt] = []


class Document(_Strict):
    """All images of a request.

    Attributes:
        seconds: After which the client no longer waits: what is not scored by then is dropped.
    """

    seconds: float = Field(60.0, gt=0, le=3600, allow_inf_nan=False)
    tasks: list[Item] = Field(min_length=1)


def parse_document(text: str) -> Document:
    """The document that `text` holds.

    Raises:
        ValueError: a field is missing, unknown or of another type. The message names fields, and
            never quotes what was sent.
    """
    try:
        return Document.model_validate_json(text)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        first = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details[:3]]
        raise ValueError(f"{len(details)} problem(s) in tasks: {'; '.join(first)}") from None


def images_and_tasks(
    document: Document, files: Sequence[Image.Image]
) -> tuple[list[Image.Image], list[Task]]:
    """The images to be scored, and a task for each.

    Raises:
        ValueError: there is no such file, or no task uses one, an image is not RGB, or a mask does
            not fit.
    """
    used: set[int] = set()

    def get(index: int, mode: str = "RGB") -> Image.Image:
        used.add(index)
        if index >= len(files):
            raise ValueError(f"tasks name image {index}, and there are {len(files)}")
        if files[index].mode != mode:
            raise ValueError(f"image {index} has mode {files[index].mode}: {mode} is wanted")
        return files[index]

    images, tasks = [], []
    for item in document.tasks:
        mask = None if item.reference_mask is None else get(item.reference_mask, "L")
        reference = get(item.reference)
        if mask is not None and mask.size != reference.size:
            raise ValueError(f"mask {item.reference_mask} is not of its reference's size")
        others = {
            "reference": reference,
            "reference_mask": mask,
            "other_photos": tuple(map(get, item.other_photos)),
            "more_references": tuple(map(get, item.more_references)),
        }
        images.append(get(item.image))
        tasks.append(Task(**{**item.model_dump(exclude={"image"}), **others}))
    if len(used) < len(files):
        raise ValueError(f"{len(files) - len(used)} images belong to no task")
    return images, tasks
