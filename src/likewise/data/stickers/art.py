"""The vendored stickers: their catalogue, and their pixels at several sizes."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ART_FOLDER = Path(__file__).parents[1] / "art"

# Longest sides kept of each sticker. Drawing starts from the smallest one that is large enough, so
# that bicubic resampling never shrinks by more than about 1.5 (no aliasing, little work).
MIP_SIDES = (112, 76, 52, 36, 24)


def nearest(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for an error message, or nothing when no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True)
class Sticker:
    """One subject of the sticker world."""

    subject: str  # identifier: "alarm_clock"
    name: str  # plain English: "alarm clock"
    category: str
    held_out: bool  # True: never in any training sample
    file: Path


@dataclass(frozen=True)
class Pixels:
    """A sticker at several sizes, RGBA, largest first, and its mean luminance over the subject."""

    mips: tuple[Image.Image, ...]
    mean_luminance: float

    def at_least(self, side: float) -> Image.Image:
        """The smallest stored image whose longest side is at least `side` pixels."""
        fitting = [mip for mip in self.mips if max(mip.size) >= side]
        return fitting[-1] if fitting else self.mips[0]


class StickerArt:
    """The catalogue of a sticker folder (``subjects.json`` and WebP files); pixels load lazily.

    Raises:
        FileNotFoundError: the folder or its catalogue is absent.
        ValueError: the catalogue is not valid, a subject is unknown, a file is damaged or has no
            transparency. Every message names the file or the subject.
    """

    def __init__(self, folder: Path = ART_FOLDER) -> None:
        self.folder = Path(folder)
        self.stickers = {sticker.subject: sticker for sticker in self._read_catalogue()}
        self._pixels: dict[str, Pixels] = {}

    def _read_catalogue(self) -> list[Sticker]:
        path = self.folder / "subjects.json"
        if not path.exists():
            raise FileNotFoundError(
                f"sticker catalogue not found: {path}; rebuild it with scripts/build_stickers.py"
            )
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return [
                Sticker(
                    subject=row["file"].removesuffix(".webp"),
                    name=row["name"],
                    category=row["category"],
                    held_out=row["split"] == "held-out",
                    file=self.folder / row["file"],
                )
                for row in rows
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"sticker catalogue is damaged: {path}: {error!r}") from error

    def __getitem__(self, subject: str) -> Sticker:
        try:
            return self.stickers[subject]
        except KeyError:
            hint = nearest(subject, self.stickers)
            raise ValueError(f"unknown sticker subject {subject!r}{hint}") from None

    def subjects(self, held_out: bool) -> list[str]:
        """Identifiers of one split, in catalogue order."""
        return [key for key, sticker in self.stickers.items() if sticker.held_out == held_out]

    def pixels(self, subject: str) -> Pixels:
        """The pixels of a subject, loaded once."""
        if subject not in self._pixels:
            self._pixels[subject] = _load_pixels(self[subject].file)
        return self._pixels[subject]


def _load_pixels(path: Path) -> Pixels:
    if not path.exists():
        raise FileNotFoundError(f"sticker file not found: {path}")
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"sticker file is damaged or not an image: {path}: {error}") from error
    if image.mode != "RGBA":
        raise ValueError(
            f"sticker file must be RGBA (transparent background): {path} is {image.mode}"
        )
    return Pixels(mips=tuple(_mips(image)), mean_luminance=_mean_luminance(image))


def _mips(image: Image.Image) -> Iterable[Image.Image]:
    longest = max(image.size)
    for side in MIP_SIDES:
        width, height = (max(1, round(length * side / longest)) for length in image.size)
        yield image.resize((width, height), Image.Resampling.LANCZOS)


def _mean_luminance(image: Image.Image) -> float:
    weights = image.getchannel("A").histogram()
    if not sum(weights[128:]):
        return 128.0
    subject = image.getchannel("A").point(lambda alpha: 255 * (alpha >= 128))
    histogram = image.convert("L").histogram(mask=subject)
    return sum(level * count for level, count in enumerate(histogram)) / sum(histogram)


@functools.cache
def shipped_art() -> StickerArt:
    """The stickers that come with the package."""
    return StickerArt()
