"""`likewise generate`: draw the subject of an image as a prompt says."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.cli.options import BestOption, DeviceOption, RecipeOption, TrustCodeOption
from likewise.terminal import say

if TYPE_CHECKING:
    from PIL import Image


def generate(
    reference: Annotated[Path, typer.Option(help="Image file that shows the subject.")],
    prompt: Annotated[str, typer.Option(help="Text of what to draw: 'a duck in the snow'.")],
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Run, checkpoint or adapter to draw with.", show_default="the untrained model"
        ),
    ] = None,
    recipe: RecipeOption = None,
    out: Annotated[
        Path,
        typer.Option(help="Image file to write; several are numbered, as in image-0.png."),
    ] = Path("image.png"),
    seed: Annotated[int, typer.Option(help="Seed of the initial noise.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of images to draw.")] = 1,
    best: BestOption = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
) -> None:
    """Draw the subject of an image as a prompt says, with a trained adapter or without."""
    with readable_errors():
        files = _files(out, count)

        from likewise.api.early_checks import require_adapter

        require_adapter(adapter, best)  # before torch is imported

        from likewise import api

        images = api.generate(
            reference, prompt, adapter, recipe, seed, count, best, device, trust_code
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        for file, image in zip(files, images, strict=True):
            _save(image, file)
            say(str(file))


def _save(image: Image.Image, file: Path) -> None:
    """Write an image whole or not at all.

    Raises:
        OSError: it cannot be written, as on a full disk; whatever was there stays.
    """
    from likewise.records.atomic import write_atomically

    content = BytesIO()
    image.save(content, format=_format(file))
    write_atomically(file, content.getvalue())


def _format(file: Path) -> str | None:
    """Pillow's name of the format that a file's ending means."""
    from PIL import Image

    Image.init()
    return Image.registered_extensions().get(file.suffix.lower())


def _files(out: Path, count: int) -> list[Path]:
    """Where the images go.

    Raises:
        ValueError: nothing can be written there; better now than after drawing.
    """
    from PIL import Image

    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name an image in it, as {out / 'image.png'}")
    if _format(out) not in Image.SAVE:
        raise ValueError(f"--out {out} does not end like an image, as in .png, .webp or .jpg")
    if count == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(count)]
