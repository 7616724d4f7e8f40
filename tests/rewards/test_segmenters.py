"""Segmenters: transformers models of the real classes, U²-Net's layout in ONNX, and functions."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_bytes import conv_sigmoid
from PIL import Image
from tiny_encoders import IMAGENET, IMAGES, SIDE, TASKS, make_image, normalised
from tiny_segmenters import ADE, save_clipseg, save_mask2former, save_segformer
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    CLIPSegForImageSegmentation,
    Mask2FormerForUniversalSegmentation,
    SegformerForSemanticSegmentation,
)

from likewise.rewards.dino import DinoReward
from likewise.rewards.segmenters import Segmenter, load_segmenter
from likewise.rewards.segmenters.labelled import WINDOW, LabelledSegmenter, matching_labels

NAMES = ("duck", "car", "sky", "duck", "teapot", "car", "duck")
SALIENT = (6.0, -3.0, -2.0)  # red
MODELS = ("clipseg", "segformer", "mask2former", "u2net")


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenters")
    # Seeds by which untrained models see something, but not everything, of most classes.
    for seed, save in ((7, save_clipseg), (4, save_segformer), (2, save_mask2former)):
        torch.manual_seed(seed)
        save(folder / save.__name__.removeprefix("save_"))
    (folder / "u2netp.onnx").write_bytes(conv_sigmoid(SALIENT, bias=-1.0))
    return folder


def load(kind: str, segmenters: Path) -> Segmenter:
    if kind == "u2net":
        pytest.importorskip("onnxruntime")
        return load_segmenter(str(segmenters / "u2netp.onnx"))
    return load_segmenter(str(segmenters / kind))


def arrays(masks: Sequence[Image.Image | None]) -> list[np.ndarray | None]:
    return [None if mask is None else np.asarray(mask) for mask in masks]


def same(one: Sequence[Image.Image | None], other: Sequence[Image.Image | None]) -> bool:
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)


# --- what all promise ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_masks_are_of_the_promised_kind(kind: str, segmenters: Path) -> None:
    segmenter = load(kind, segmenters)
    assert isinstance(segmenter, Segmenter)
    masks = segmenter.masks(IMAGES, NAMES)
    found = [(mask, image) for mask, image in zip(masks, IMAGES, strict=True) if mask is not None]
    assert len(found) >= 3
    for mask, image in found:
        assert mask.mode == "L" and mask.size == image.size
        assert mask.getextrema()[1] >= (250 if kind == "u2net" else 255)  # soft, and scaled
        assert kind == "u2net" or set(np.unique(np.asarray(mask))) <= {0, 255}
    assert any(mask.getextrema()[0] == 0 for mask, _ in found)  # not just all of the image
    assert list(segmenter.masks([], [])) == []


@pytest.mark.parametrize("kind", MODELS)
def test_masks_do_not_depend_on_what_else_is_asked(kind: str, segmenters: Path) -> None:
    segmenter, order = load(kind, segmenters), [3, 0, 6, 1, 5, 2, 4]
    images, names = [*IMAGES, *IMAGES[:4]], [*NAMES, *NAMES[:4]]  # more than a batch of clipseg
    together = list(segmenter.masks(images, names))
    alone = [segmenter.masks([image], [name])[0] for image, name in zip(images, names, strict=True)]
    assert same(together, alone)
    moved = segmenter.masks([images[row] for row in order], [names[row] for row in order])
    assert same(moved, [together[row] for row in order])


@pytest.mark.parametrize(
    ("kind", "blank", "teapot"),
    [
        ("clipseg", False, True),
        ("segformer", False, False),
        ("mask2former", False, False),
        ("u2net", True, True),
    ],
)
def test_a_class_is_known_or_not(
    kind: str, blank: bool, teapot: bool, segmenters: Path, encoders: Path
) -> None:
    """What is not known is nowhere in `masks`, and missing in a reward: never a number."""
    segmenter = load(kind, segmenters)
    names = {"duck": True, "Car": True, "": blank, " \n": blank, "teapot": teapot}
    assert {name: segmenter.knows(name) for name in names} == names
    many = [name for name in names for _ in IMAGES]
    masks = segmenter.masks(IMAGES * len(names), many)
    seen = {name for name, mask in zip(many, masks, strict=True) if mask is not None}
    assert seen == {name for name, known in names.items() if known}
    for segment in (False, True):
        reward = DinoReward(
            encoders / "dinov2", segment, segment_generated=True, segmenter=segmenter
        )
        tasks = [replace(TASKS[0], class_name=name) for name in names]
        values, valid = reward.score(IMAGES[: len(names)], tasks)
        assert valid.tolist() == list(names.values())
        assert values[~valid].isnan().all()
        alone = [reward.score([one], [of]) for one, of in zip(IMAGES, tasks, strict=False)]
        assert torch.equal(valid, torch.cat([each[1] for each in alone]))
        numbers = torch.cat([each[0] for each in alone])
        torch.testing.assert_close(values, numbers, atol=1e-5, rtol=0, equal_nan=True)


@pytest.mark.parametrize("kind", MODELS)
def test_a_wrong_image_is_named(kind: str, segmenters: Path) -> None:
    with pytest.raises(ValueError, match="image 1 has mode 'L'"):
        load(kind, segmenters).masks([IMAGES[0], IMAGES[1].convert("L")], ["duck", "duck"])


# --- equal to what is written out ----------------------------------------------------------------


def agree(mask: Image.Image | None, logits: torch.Tensor) -> None:
    """The mask is where logits [h, w], brought to its size, are above 0; a hair's breadth aside."""
    if mask is None:
        assert logits.max() <= 1e-5
        return
    size = (mask.height, mask.width)
    large = F.interpolate(logits[None, None], size, mode="bilinear")[0, 0].numpy()
    clear = np.abs(large) > 1e-5
    assert np.array_equal((np.asarray(mask) > 0)[clear], (large > 0)[clear])


def squashed(image: Image.Image, side: int) -> torch.Tensor:
    small = image.resize((side, side), Image.Resampling.BILINEAR)
    return normalised(np.asarray(small, dtype=np.float64), *IMAGENET)


def test_clipseg_equals_the_direct_computation(segmenters: Path) -> None:
    folder = segmenters / "clipseg"
    model = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    masks = load_segmenter(str(folder)).masks(IMAGES, NAMES)
    tokens = AutoTokenizer.from_pretrained(folder)
    for image, name, mask in zip(IMAGES, NAMES, masks, strict=True):
        ids = torch.tensor([tokens(name).input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=squashed(image, SIDE)).logits
        agree(mask, logits.reshape(SIDE, SIDE))


def test_clipseg_listens_to_the_class_name(segmenters: Path) -> None:
    segmenter = load_segmenter(str(segmenters / "clipseg"))
    duck, car = (arrays(segmenter.masks(IMAGES, [name] * len(IMAGES))) for name in ("duck", "car"))
    assert any(not np.array_equal(one, other) for one, other in zip(duck, car, strict=True))


def direct_scores(kind: str, folder: Path, image: Image.Image) -> torch.Tensor:
    """[labels, h, w]: the score of each label, at the model's resolution."""
    if kind == "segformer":
        model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
        return model(pixel_values=squashed(image, 64)).logits[0]
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    width, height = image.size
    shorter = 64 / min(width, height)  # as long as the longer side stays within 128
    shorter = min(shorter, 128 / max(width, height))
    size = [32 * -(-int(length * shorter + 1e-9) // 32) for length in (width, height)]
    small = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    outputs = model(pixel_values=normalised(np.asarray(small, dtype=np.float64), *IMAGENET))
    large = F.interpolate(outputs.masks_queries_logits, (384, 384), mode="bilinear")
    classes = outputs.class_queries_logits[0].softmax(-1)[:, :-1]
    return torch.einsum("qc,qhw->chw", classes, large[0].sigmoid())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["segformer", "mask2former"])
def test_labelled_models_equal_the_direct_computation(kind: str, segmenters: Path) -> None:
    masks = load(kind, segmenters).masks(IMAGES, ["sky"] * len(IMAGES))
    shares = []
    for image, mask in zip(IMAGES, masks, strict=True):
        scores = direct_scores(kind, segmenters / kind, image)
        size = (image.height, image.width)
        large = F.interpolate(scores[None], size, mode="bilinear")[0]
        sky = (large.argmax(0) == 3).numpy()
        given = np.zeros(size, bool) if mask is None else np.asarray(mask) > 0
        top = large.topk(2, dim=0).values
        clear = (top[0] - top[1] > 1e-5).numpy()
        assert np.array_equal(given[clear], sky[clear])
        shares.append(sky.mean())
    assert 0 < np.mean(shares) < 1


def test_u2net_equals_the_direct_computation(segmenters: Path) -> None:
    dim = [image.point(lambda level: level // 2) for image in IMAGES]  # lit up by the brightest
    masks = load("u2net", segmenters).masks(dim, NAMES)
    for image, mask in zip(dim, masks, strict=True):
        small = np.asarray(image.resize((320, 320), Image.Resampling.LANCZOS), dtype=np.float64)
        mean, std = (np.array(each) for each in IMAGENET)
        logits = ((small / small.max() - mean) / std) @ np.array(SALIENT) - 1
        salient = 1 / (1 + np.exp(-logits))
        assert salient.max() > 0.5 and mask is not None
        levels = (salient - salient.min()) / (salient.max() - salient.min()) * 255
        large = Image.fromarray(levels.astype(np.float32)).resize(
            image.size, Image.Resampling.LANCZOS
        )
        difference = np.asarray(mask, dtype=np.float32) - np.clip(np.asarray(large), 0, 255)
        assert np.abs(difference).max() <= 2  # whole levels, twice


def test_u2net_finds_nothing_where_nothing_stands_out(segmenters: Path) -> None:
    segmenter = load("u2net", segmenters)
    plain = [Image.new("RGB", (40, 30), colour) for colour in ((200, 0, 0), (0, 0, 0))]
    cold = make_image(5, (40, 30)).convert("RGB", matrix=[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 200])
    assert list(segmenter.masks([*plain, cold], ["duck"] * 3)) == [None] * 3


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("dog", [1]),  # not the hot dog
        ("Hot Dog", [2]),
        ("hot-dog", [2]),
        ("fauna", [0]),
        ("sky", [3]),  # sky-other-merged
        ("chair", [4, 5]),  # two labels, neither of that very name
        ("brass", [0]),  # "animate being; brass fauna"
        ("anim", []),  # no whole word
        ("red sky", []),
        ("", []),
        ("!?", []),
    ],
)
def test_labels_match_class_names(name: str, rows: list[int]) -> None:
    labels = ["animal, fauna; brass being", "dog", "hot dog", "sky-other-merged"]
    labels += ["swivel chair", "folding_chair"]
    assert matching_labels(name, dict(enumerate(labels))) == rows


def test_a_class_without_a_label_is_nowhere(segmenters: Path) -> None:
    assert "teapot" not in " ".join(ADE)
    assert load("segformer", segmenters).masks(IMAGES[:2], ["teapot"] * 2) == [None, None]


@pytest.mark.parametrize("kind", ["segformer", "mask2former"])
def test_only_a_window_of_images_is_prepared_at_a_time(kind: str, segmenters: Path) -> None:
    segmenter = load(kind, segmenters)
    assert isinstance(segmenter, LabelledSegmenter)
    prepared: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    pixels = segmenter._pixels

    def watched(image: Image.Image) -> torch.Tensor:
        one = pixels(image)
        prepared.append(weakref.ref(one))
        alive.append(sum(each() is not None for each in prepared))
        return one

    segmenter._pixels = watched  # type: ignore[method-assign]
    images = [
        make_image(row, ((40, 30), (30, 60), (64, 64))[row % 3]) for row in range(WINDOW * 2 + 5)
    ]
    names = ["teapot" if row % 5 == 4 else "duck" for row in range(len(images))]
    masks = segmenter.masks(images, names)
    assert len(prepared) == names.count("duck") > WINDOW  # the unknown are not prepared at all
    assert max(alive) == WINDOW and alive[WINDOW] == 1
    alone = [segmenter.masks([image], [name])[0] for image, name in zip(images, names, strict=True)]
    assert same(masks, alone)


# --- functions -----------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write ``own_segmenter.py`` where it is found; imported anew each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(returned: str) -> Segmenter:
        sys.modules.pop("own_segmenter", None)
        source = f"from PIL import Image\n\ndef find(images, class_names):\n    return {returned}\n"
        (tmp_path / "own_segmenter.py").write_text(source)
        return load_segmenter("own_segmenter:find")

    return write


def test_a_function_is_a_segmenter(module: Any) -> None:
    segmenter = module("[i.getchannel(n) if n else None for i, n in zip(images, class_names)]")
    masks = segmenter.masks(IMAGES[:2], ["R", ""])
    assert np.array_equal(np.asarray(masks[0]), np.asarray(IMAGES[0])[..., 0])
    assert masks[1] is None


def test_a_function_knows_every_class(module: Any) -> None:
    segmenter = module("[None for each in images]")
    assert isinstance(segmenter, Segmenter) and segmenter.knows("teapot") and segmenter.knows("")


def test_a_functions_empty_mask_is_none(module: Any) -> None:
    segmenter = module("[Image.new('L', each.size) for each in images]")
    assert segmenter.masks(IMAGES[:2], NAMES[:2]) == [None, None]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[None]", "own_segmenter:find: wanted a list of 2 masks.*not 1"),
        ("None", "wanted a list of 2 masks.*NoneType"),
        ("[None, images[1]]", "own_segmenter:find: mask 1 has mode 'RGB'.*wanted 'L'"),
        ("[Image.new('L', (3, 3))] * 2", r"mask 0 has mode 'L' and size \(3, 3\)"),
        ("[3, 4]", "mask 0 is not a PIL image but int"),
    ],
)
def test_what_a_function_returns_is_checked(returned: str, message: str, module: Any) -> None:
    segmenter = module(returned)
    with pytest.raises(ValueError, match=message):
        segmenter.masks(IMAGES[:2], NAMES[:2])


# --- names that mean nothing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:find", "no_such_module fails to import"),
        ("math:no_such_function", "no_such_function"),
        ("math:pi", "math:pi is a float, not a function"),
        ("nowhere.onnx", "there is no file nowhere.onnx"),
        ("no/such/folder", "cannot load 'no/such/folder'"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_segmenter(name)


def test_a_model_of_another_kind_is_named(encoders: Path) -> None:
    with pytest.raises(ValueError, match="is a 'dinov2' model; wanted CLIPSeg, a semantic"):
        load_segmenter(str(encoders / "dinov2"))


def test_without_onnxruntime_the_extra_is_named(
    segmenters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r'pip install "likewise\[segment\]"'):
        load_segmenter(str(segmenters / "u2netp.onnx"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (conv_sigmoid(SALIENT, bias=0.0, side=64), r"\[1, 3, 64, 64\]; U²-Net's is"),
        (b"no such model", "is not an ONNX model that can be run"),
    ],
)
def test_another_onnx_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_segmenter(str(tmp_path / "other.onnx"))


# --- in a reward ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_dino_segments_by_any_of_them(kind: str, segmenters: Path, encoders: Path) -> None:
    segmenter = load(kind, segmenters)
    reward = DinoReward(
        encoders / "dinov2", segment=True, segment_generated=True, segmenter=segmenter
    )
    values, valid = reward.score(IMAGES, TASKS)
    whole, _ = DinoReward(encoders / "dinov2", segment=True).score(IMAGES, TASKS)
    assert valid.all() and (values - whole).abs().max() > 0.01
    alone = [reward.score([image], [one])[0] for image, one in zip(IMAGES, TASKS, strict=True)]
    torch.testing.assert_close(values, torch.cat(alone), atol=1e-5, rtol=0)
