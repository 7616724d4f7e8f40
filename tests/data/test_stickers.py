"""The sticker world: what it draws, what it says, and how it refuses bad input."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likewise.data.stickers import world
from likewise.data.stickers.art import StickerArt, shipped_art
from likewise.data.stickers.marks import SHAPES, Mark, other_mark, random_mark
from likewise.data.stickers.prompts import (
    constraints_of,
    hard_negatives,
    kind_and_complexity,
    write_prompt,
)
from likewise.data.stickers.rendering import COLOURS, SIDE, SIZES, Spec, Variant, render
from likewise.data.stickers.scenes import SCENES, draw_scene
from likewise.seeding import derive_seed, numpy_rng


def some_images(count: int) -> list[bytes]:
    parts = []
    for index in range(count):
        task = world.training_task(index, seed=3)
        parts += [
            task.prompt.encode(),
            task.reference.tobytes(),
            world.truth(task).image.tobytes(),
        ]
        parts += [photo.tobytes() for photo in task.other_photos]
        assert task.reference_mask is not None
        parts.append(task.reference_mask.tobytes())
    return parts


def test_200_tasks_rendered_twice_are_the_same_bytes() -> None:
    first = some_images(200)
    world.subject_photos.cache_clear()
    assert some_images(200) == first
    assert len(set(first)) > 1000  # and they are not all the same image


def test_the_set_has_30_held_out_subjects_over_all_categories() -> None:
    art = shipped_art()
    every = art.stickers.values()
    assert len(every) >= 550
    assert len({sticker.category for sticker in every}) >= 10
    assert len({sticker.name for sticker in every}) == len(every)
    held_out = [sticker for sticker in every if sticker.held_out]
    assert len(held_out) == 30
    assert {sticker.category for sticker in held_out} == {sticker.category for sticker in every}


def test_no_training_task_shows_a_held_out_subject() -> None:
    held_out = set(shipped_art().subjects(held_out=True))
    seen = {world.training_task(index, seed=1).subject for index in range(400)}
    assert seen and not seen & held_out


def test_bench_is_30_by_25_and_as_the_code_makes_it() -> None:
    rows = json.loads(world.BENCH_FILE.read_text(encoding="utf-8"))
    assert rows == world.make_bench()
    tasks = world.bench_tasks()
    assert Counter(task.subject for task in tasks) == dict.fromkeys(
        shipped_art().subjects(held_out=True), 25
    )
    assert len({task.id for task in tasks}) == 750
    kinds = Counter((task.kind, task.complexity) for task in tasks)
    assert kinds == {
        ("scene", 1): 240,
        ("property", 1): 150,
        ("layout", 1): 120,
        ("combination", 2): 150,
        ("combination", 3): 90,
    }
    first = tasks[0]
    assert first.reference.size == (SIDE, SIDE) and first.reference.mode == "RGB"
    assert first.class_name in first.prompt and len(first.other_photos) == 4
    assert all(task.reference is first.reference for task in tasks[:25])


def test_masks_cover_the_subject_as_the_prompt_says() -> None:
    def centre_and_area(**look: str) -> tuple[float, float]:
        mask = np.asarray(render(shipped_art(), Spec("turtle", **look), numpy_rng("m")).mask) > 127
        return float(np.nonzero(mask)[1].mean()), float(mask.sum())

    usual, left, right = (centre_and_area(place=place) for place in ("centre", "left", "right"))
    assert left[0] == pytest.approx(usual[0] - 16, abs=0.1)
    assert right[0] == pytest.approx(usual[0] + 16, abs=0.1)
    assert (
        centre_and_area(size="tiny")[1]
        < usual[1] / 2
        < usual[1] * 1.5
        < centre_and_area(size="huge")[1]
    )


@pytest.mark.parametrize("colour", COLOURS)
def test_a_recoloured_subject_has_the_colour_of_its_name(colour: str) -> None:
    drawing = render(shipped_art(), Spec("penguin", colour=colour), numpy_rng("c"))
    pixels = np.asarray(drawing.image, dtype=float)[np.asarray(drawing.mask) > 200]
    distances = {
        name: float(np.linalg.norm(pixels.mean(axis=0) - np.array(tone)))
        for name, tone in COLOURS.items()
    }
    assert min(distances, key=distances.__getitem__) == colour


def test_scenes_differ_more_from_each_other_than_themselves() -> None:
    def thumbnail(name: str, index: int) -> np.ndarray:
        image = draw_scene(name, numpy_rng("scene", name, index)).resize((8, 8))
        return np.asarray(image, dtype=float).ravel()

    assert len(SCENES) >= 12
    means = {name: np.mean([thumbnail(name, i) for i in range(20)], axis=0) for name in SCENES}
    right = []
    for name in SCENES:
        for index in range(20, 30):
            image = thumbnail(name, index)
            distances = {other: np.abs(image - mean).sum() for other, mean in means.items()}
            right.append(min(distances, key=distances.__getitem__) == name)
    assert np.mean(right) > 0.95


def test_variants_change_the_subject_and_keep_it_inside() -> None:
    art = shipped_art()
    plain = render(art, Spec("guitar"), numpy_rng("v"))
    marked = Variant(Mark("star", "cyan"))
    for variant in (marked, Variant(hue=120.0), Variant(mirrored=True), Variant(stretch=1.3)):
        other = render(art, Spec("guitar", variant=variant), numpy_rng("v"))
        assert other.image.tobytes() != plain.image.tobytes()
        box = other.mask.getbbox()
        assert box is not None and min(box[:2]) > 2 and max(box[2:]) < SIDE - 2


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_whole_tokens_of_8_pixels(size: str) -> None:
    drawing = render(shipped_art(), Spec("turtle", size=size), numpy_rng("t"))
    box = drawing.mask.point(lambda alpha: 255 * (alpha > 100)).getbbox()
    assert box is not None and SIZES[size] % 16 == 0  # centred on the corner of a token
    assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(SIZES[size], abs=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_mark_shows_on_every_held_out_subject(shape: str) -> None:
    art = shipped_art()
    for subject in art.subjects(held_out=True):
        plain = render(art, Spec(subject), numpy_rng("m"))
        marked = render(art, Spec(subject, variant=Variant(Mark(shape, "cyan"))), numpy_rng("m"))
        assert marked.mask.tobytes() == plain.mask.tobytes()  # inside the outline
        change = np.abs(np.asarray(marked.image, int) - np.asarray(plain.image, int)).max(axis=2)
        inside = np.asarray(plain.mask) > 0
        assert not change[~inside].any()
        assert 0.03 < (change[inside] > 40).mean() < 0.75, subject


def test_a_mark_keeps_its_colour_when_the_subject_is_recoloured() -> None:
    art, variant = shipped_art(), Variant(Mark("disc", "yellow"))
    pixels = [
        np.asarray(
            render(art, Spec("turtle", colour=colour, variant=variant), numpy_rng("m")).image
        )
        for colour in (None, "red", "blue")
    ]
    centre = [image[32, 32].astype(int) for image in pixels]
    assert max(np.abs(centre[0] - other).max() for other in centre[1:]) <= 2


def test_a_task_and_its_truth_show_one_individual() -> None:
    for task in (world.bench_tasks()[0], world.training_task(5)):
        plain = dataclasses.replace(task, constraints={})
        assert task.reference_mask is not None
        inside = np.asarray(task.reference_mask) > 250
        reference = np.asarray(task.reference, float)[inside]
        same = np.asarray(world.asked_for(plain), float)[inside]
        assert np.corrcoef(reference.ravel(), same.ravel())[0, 1] > 0.99
    marks = {world.individual(f"train-0-{index}").mark for index in range(50)}
    assert len(marks) > 30
    for index in range(50):
        mark = random_mark(numpy_rng("a", index))
        assert other_mark(mark, numpy_rng("b", index)) != mark


@pytest.mark.parametrize(
    ("look", "kind", "complexity"),
    [
        ({"scene": "beach"}, "scene", 1),
        ({"colour": "red"}, "property", 1),
        ({"size": "tiny", "place": "left"}, "layout", 1),
        ({"scene": "snow", "colour": "red"}, "combination", 2),
        ({"scene": "snow", "colour": "red", "size": "tiny", "place": "left"}, "combination", 3),
    ],
)
def test_kind_and_complexity(look: dict[str, str], kind: str, complexity: int) -> None:
    assert kind_and_complexity(constraints_of(look)) == (kind, complexity)


def test_prompts_read_like_english_and_have_several_phrasings() -> None:
    look = {"scene": "snow", "colour": "red", "size": "tiny", "place": "left"}
    prompts = {write_prompt("teapot", look, numpy_rng("p", index)) for index in range(50)}
    assert "a tiny red teapot on the left, in the snow" in prompts and len(prompts) >= 4
    assert write_prompt("apple", {}, numpy_rng("q", 1)).endswith("an apple")
    assert write_prompt("unicorn", {}, numpy_rng("q", 1)).endswith("a unicorn")


def test_hard_negatives_are_distinct_and_wrong() -> None:
    look = {"scene": "beach", "colour": "blue"}
    truths = {write_prompt("cat", look, numpy_rng("t", index)) for index in range(200)}
    negatives = hard_negatives("cat", look, numpy_rng("n"), 8)
    assert len(set(negatives)) == 8 and not set(negatives) & truths


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Spec("turtle", scene="beech"), ["scene", "'beech'", "'beach'"]),
        (lambda: Spec("turtle", colour="blu"), ["colour", "'blu'", "'blue'"]),
        (lambda: Spec("turtle", size="enormous"), ["size", "'enormous'", "huge"]),
        (lambda: Spec("turtle", place="top"), ["place", "'top'"]),
        (lambda: Mark("sta", "red"), ["shape", "'sta'", "'star'"]),
        (lambda: Mark("star", "rad"), ["colour", "'rad'", "'red'"]),
        (lambda: shipped_art()["turtel"], ["subject", "'turtel'", "'turtle'"]),
        (lambda: constraints_of({"color": "red"}), ["attribute", "'color'", "'colour'"]),
        (lambda: constraints_of({"colour": "rad"}), ["colour", "'rad'", "'red'"]),
        (lambda: draw_scene("beech", numpy_rng("x")), ["scene", "'beech'", "'beach'"]),
    ],
)
def test_unknown_names_are_one_clear_error(call, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), error.value


@pytest.fixture
def small_art(tmp_path: Path) -> Path:
    """A folder with two of the stickers, for breaking."""
    art = shipped_art()
    rows = json.loads((art.folder / "subjects.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if row["name"] in ("turtle", "cat")]
    for row in rows:
        shutil.copy(art.folder / row["file"], tmp_path)
    (tmp_path / "subjects.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


def test_damaged_art_is_one_clear_error_naming_the_file(small_art: Path) -> None:
    whole = (small_art / "turtle.webp").read_bytes()
    assert StickerArt(small_art).pixels("turtle").mips

    (small_art / "turtle.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"turtle\.webp"):
        StickerArt(small_art).pixels("turtle")
    (small_art / "turtle.webp").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"turtle\.webp"):
        StickerArt(small_art).pixels("turtle")
    (small_art / "turtle.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"turtle\.webp"):
        StickerArt(small_art).pixels("turtle")
    Image.new("RGB", (10, 10)).save(small_art / "turtle.webp")
    with pytest.raises(ValueError, match=r"RGBA.*turtle\.webp is RGB"):
        StickerArt(small_art).pixels("turtle")


def test_a_missing_or_damaged_catalogue_is_one_clear_error(small_art: Path) -> None:
    (small_art / "subjects.json").write_text("[{]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"subjects\.json"):
        StickerArt(small_art)
    (small_art / "subjects.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"subjects\.json.*build_stickers"):
        StickerArt(small_art)


def test_seeds_depend_on_every_part_and_its_type() -> None:
    assert derive_seed("a", 1) == derive_seed("a", 1)
    others = [derive_seed("a", "1"), derive_seed("a", 2), derive_seed("a1"), derive_seed(1, "a")]
    assert derive_seed("a", 1) not in others and len(set(others)) == 4
    assert 0 <= derive_seed("x") < 2**63


def test_recolourings_have_the_share_asked_for() -> None:
    usual = world._odds(None)
    assert world._odds(0.15) == pytest.approx(usual) and sum(world._odds(0.6)) == pytest.approx(1)
    scene, colour, layout, _ = world._odds(0.6)
    assert colour == 0.6 and scene / layout == pytest.approx(usual[0] / usual[2])
    assert {world.training_task(n, recolouring=1.0).kind for n in range(5)} == {"property"}
    assert world.training_task(7).prompt == world.training_task(7, recolouring=0.15).prompt
