"""The one reader of image files: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from likewise.images import ImageError, is_litter, open_image

RED = (200, 30, 30)


def plain(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, RED)


@pytest.mark.parametrize("suffix", ["jpg", "jfif", "png", "webp", "gif", "bmp", "tif"])
def test_documented_formats_open_as_rgb(suffix: str, tmp_path: Path) -> None:
    plain().save(tmp_path / f"a.{suffix}")
    found = open_image(tmp_path / f"a.{suffix}")
    assert (found.mode, found.size) == ("RGB", (40, 30))
    assert all(abs(a - b) < 8 for a, b in zip(found.getpixel((5, 5)), RED, strict=True))


def heic(file: Path) -> None:
    file.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(60))


REFUSED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "bomb": (lambda file: Image.new("1", (12_000, 12_000)).save(file), "huge image", "exceeds"),
    "PostScript": (
        lambda file: file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not an image",
        "PostScript: convert",
    ),
    "float": (lambda file: Image.new("F", (40, 30)).save(file, "TIFF"), "wrong mode", "mode F"),
    "Lab": (lambda file: Image.new("LAB", (40, 30)).save(file, "TIFF"), "wrong mode", "mode LAB"),
    "32 bits": (lambda file: Image.new("I", (40, 30)).save(file, "TIFF"), "wrong mode", "mode I"),
    "HEIC": (heic, "not an image", "HEIC: convert it to JPEG or PNG"),
    "LFS": (
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "not an image",
        "git lfs pull",
    ),
    "AppleDouble": (
        lambda file: file.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(60)),
        "not an image",
        "AppleDouble",
    ),
    "web page": (
        lambda file: file.write_text("<!DOCTYPE html><title>404</title>"),
        "not an image",
        "download",
    ),
    "dead link": (lambda file: file.symlink_to("gone/0.png"), "missing image", "gone/0.png"),
    "folder": (lambda file: file.mkdir(), "missing image", "there is no image"),
    "empty": (lambda file: file.touch(), "truncated image", "is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, what, words = REFUSED[name]
    make(tmp_path / "a.png")
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "a.png")
    assert caught.value.what == what and words in caught.value.detail
    assert "a.png" in str(caught.value)


@pytest.mark.parametrize("after_pixels", [False, True])
def test_a_png_may_hold_megabytes_of_text(after_pixels: bool, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("workflow", "x" * 3_000_000, zip=True)
    plain().save(tmp_path / "a.png", pnginfo=text)
    if after_pixels:
        move_text_to_the_end(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").getpixel((5, 5)) == RED


def move_text_to_the_end(file: Path) -> None:
    data, chunks, offset = file.read_bytes(), [], 8
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        chunks.append(data[offset : offset + 12 + length])
        offset += 12 + length
    text = [chunk for chunk in chunks if chunk[4:8] == b"iTXt"]
    assert text
    others = [chunk for chunk in chunks if chunk[4:8] != b"iTXt"]
    file.write_bytes(data[:8] + b"".join([*others[:-1], *text, others[-1]]))


def test_a_png_may_hold_a_large_colour_profile(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.png", icc_profile=bytes(3_000_000))
    assert open_image(tmp_path / "a.png").size == (40, 30)


def test_text_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    body = b"zTXta\0\0" + zlib.compress(bytes(100_000_000))
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(ImageError, match=r"huge metadata: .* more than 64 MiB of text"):
        open_image(tmp_path / "a.png")


def test_damaged_exif_does_not_damage_the_image(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff\xff")
    assert open_image(tmp_path / "a.jpg").size == (40, 30)


def test_metadata_that_is_not_text_does_not_damage_the_image(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.jpg", xmp=b"<x:xmpmeta tiff:Orientation=\xa8\xff>")
    assert open_image(tmp_path / "a.jpg").size == (40, 30)


def test_a_suffix_need_not_be_that_of_the_format(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.png", "JPEG")
    assert open_image(tmp_path / "a.png").mode == "RGB"


def test_litter_is_what_systems_and_archives_leave() -> None:
    assert all(map(is_litter, ("._0.png", ".DS_Store", "__MACOSX", "Thumbs.db", "@eaDir")))
    assert not any(map(is_litter, ("0.png", "prompts.txt", "_0.png", "a.b")))
