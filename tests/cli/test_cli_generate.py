"""`likewise generate`: images with and without adapter, and references of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import run, said
from safetensors import safe_open
from safetensors.torch import save_file

from likewise.api.generation import find_adapter
from likewise.builders.datasets import fit_reference
from likewise.config import load_recipe
from likewise.data.stickers.world import bench_tasks
from likewise.images import open_image

LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photos") / "duck.png"
    bench_tasks()[0].reference.resize((90, 70)).save(file)
    return file


@pytest.fixture(scope="module")
def drawn(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of the untrained model."""
    folder = tmp_path_factory.mktemp("drawn") / "deep"
    words = ["--reference", photo, "--prompt", "a duck in the snow", "--seed", "3", "--count", "2"]
    result = run("generate", *words, "--out", folder / "base.png")
    assert result.exit_code == 0, result.output
    assert said(result) == f"{folder / 'base-0.png'} {folder / 'base-1.png'}"
    return folder


def strong_adapter(folder: Path, to: Path, by: float = 0.05) -> Path:
    """A copy of an adapter with weights that are not zero."""
    to.mkdir()
    with safe_open(folder / LORA, framework="pt") as stored:
        header = stored.metadata()
        weights = {name: stored.get_tensor(name) + by for name in stored.keys()}  # noqa: SIM118
    save_file(weights, to / LORA, metadata=header)
    return to


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_images_have_the_recipes_size_and_differ_by_seed(drawn: Path) -> None:
    first, second = pixels(drawn / "base-0.png"), pixels(drawn / "base-1.png")
    assert first.shape == (64, 64, 3)
    assert (first != second).any()


def test_an_image_that_is_not_finite_is_said(
    photo: Path, finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, trained = find_adapter(finished_run, None)
    assert trained is not None
    far = strong_adapter(trained, tmp_path / "far", by=1e30)
    words = ["--reference", photo, "--prompt", "a duck in the snow", "--count", "2"]
    result = run("generate", *words, "--adapter", far, "--out", tmp_path / "far.png")
    assert result.exit_code == 0, result.output
    assert "2 of 2 images are not finite" in caplog.text + said(result)


def test_an_adapter_changes_the_image(
    drawn: Path, photo: Path, finished_run: Path, tmp_path: Path
) -> None:
    _, trained = find_adapter(finished_run, None)
    assert trained is not None
    strong = strong_adapter(trained, tmp_path / "strong")
    words = ["--reference", photo, "--prompt", "a duck in the snow", "--seed", "3"]
    for name, adapter in (("run", finished_run), ("strong", strong)):
        result = run("generate", *words, "--adapter", adapter, "--out", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
    base = pixels(drawn / "base-0.png").astype(int)
    after_one_step = np.abs(pixels(tmp_path / "run.png") - base).mean()
    assert after_one_step < 10 < np.abs(pixels(tmp_path / "strong.png") - base).mean()


def test_an_exported_file_draws_as_the_run_does(
    finished_run: Path, photo: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lora.safetensors"
    assert run("export", finished_run, "--out", file).exit_code == 0
    words = ["--reference", photo, "--prompt", "a duck in the snow"]
    words += ["--recipe", finished_run / "recipe.yaml"]
    for name, adapter in (("run", finished_run), ("file", file)):
        result = run("generate", *words, "--adapter", adapter, "--out", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
    assert (pixels(tmp_path / "run.png") == pixels(tmp_path / "file.png")).all()


def test_run_checkpoint_and_adapter_lead_to_the_same_place(finished_run: Path) -> None:
    recipe, folder = find_adapter(finished_run, None)
    assert recipe.rollout.num_steps == 3  # the run's own
    assert folder is not None
    for start in (folder.parent, folder):
        assert find_adapter(start, None) == (recipe, folder)
    assert find_adapter(finished_run, "stickers")[0] == load_recipe("stickers")
    assert find_adapter(None, None) == (load_recipe("stickers"), None)


def test_the_best_checkpoint_is_the_one_with_the_highest_score(
    finished_run: Path, tmp_path: Path
) -> None:
    from likewise.records import CheckpointStore

    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    store = CheckpointStore(folder / "checkpoints", 2)
    store.save(2, lambda to: (to / "adapter").mkdir(), score=1.0)
    store.save(3, lambda to: (to / "adapter").mkdir(), score=0.5)
    assert find_adapter(folder, None)[1] == folder / "checkpoints" / "iteration-000003" / "adapter"
    best = find_adapter(folder, None, best=True)[1]
    assert best == folder / "checkpoints" / "iteration-000002" / "adapter"


def test_errors_about_adapters(finished_run: Path, tmp_path: Path, photo: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(finished_run, empty, ignore=shutil.ignore_patterns("iteration-*"))
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished_run, damaged)
    for manifest in damaged.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
        manifest.mkdir()  # root, who runs tests in containers, could read any file
    for words, message in (
        (["--adapter", empty], "has no intact checkpoint yet"),
        (
            ["--adapter", damaged],
            "yet iteration-000001: manifest.json is unreadable (Is a directory)",
        ),
        (["--adapter", finished_run, "--best"], "no intact checkpoint that has a score"),
        (["--adapter", tmp_path / "nowhere"], "nowhere: give a run, a checkpoint or an adapter"),
        (["--adapter", nothing], f"has no {LORA}"),
        (["--best"], "give its folder as the adapter"),
        (["--recipe", "stikers"], "did you mean 'stickers'?"),
    ):
        out = tmp_path / "out.png"
        result = run("generate", "--reference", photo, "--prompt", "a", "--out", out, *words)
        assert result.exit_code == 2 and message in said(result), result.output
        assert not out.exists()


def test_errors_about_images_and_prompts(photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not an image")
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:200])
    bomb, script = tmp_path / "bomb.png", tmp_path / "script.png"
    Image.new("1", (12_000, 12_000)).save(bomb)
    script.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    small = tmp_path / "small.png"
    Image.new("RGB", (64, 9)).save(small)
    for reference, prompt, out, message in (
        (tmp_path / "no.png", "a", "o.png", f"there is no image {tmp_path / 'no.png'}"),
        (text, "a", "o.png", f"not an image: {text} is none of JPEG, PNG"),
        (cut, "a", "o.png", f"truncated image: {cut}"),
        (bomb, "a", "o.png", f"huge image: {bomb}"),
        (script, "a", "o.png", f"not an image: {script} is PostScript: convert it to PNG"),
        (small, "a", "o.png", "64×9 pixels: each side must have at least 16"),
        (photo, "  ", "o.png", "the prompt is empty"),
        (photo, "a", "o.txt", "does not end like an image"),
        (photo, "a", ".", "is a folder"),
    ):
        words = ["--reference", reference, "--prompt", prompt, "--out", tmp_path / out]
        result = run("generate", *words)
        assert result.exit_code == 2 and message in said(result), result.output


def test_a_reference_is_upright_on_white_and_cropped(tmp_path: Path) -> None:
    file = tmp_path / "phone.png"
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: its left is above
    image.save(file, exif=exif)
    upright = open_image(file)
    assert upright.mode == "RGB" and upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (255, 0, 0)
    assert upright.getpixel((10, 35)) == (255, 255, 255)
    fitted = fit_reference(upright, load_recipe("stickers").policy)
    assert fitted.size == (64, 64)
    assert fitted.getpixel((32, 5)) == (255, 0, 0) and fitted.getpixel((32, 60)) == (255,) * 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_references_of_any_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.new(mode, (20, 20), 40000 if mode == "I;16" else 0).save(file)
    image = open_image(file)
    assert image.mode == "RGB"
    if mode == "I;16":
        assert image.getpixel((3, 3)) == (156, 156, 156)
