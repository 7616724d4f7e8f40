"""Copy index and distances inside a group, in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from likewise.algorithm.embeddings import copy_index, mean_distances


def at(degrees: float, length: float = 1.0) -> Tensor:
    """A vector at so many degrees: distances are 1 − cos of differences."""
    angle = math.radians(degrees)
    return length * torch.tensor([math.cos(angle), math.sin(angle)])


def test_a_copy_has_index_1_and_a_held_out_photo_about_minus_1() -> None:
    held_out = torch.stack([at(60)])
    assert copy_index(at(0, 7.0), at(0), held_out) == pytest.approx(1)
    assert copy_index(at(60), at(0), held_out) == pytest.approx(-1)
    assert copy_index(at(30), at(0), held_out) == pytest.approx(0, abs=1e-7)


def test_by_hand_with_several_photos() -> None:
    held_out = torch.stack([at(90, 2.0), at(60, 0.1)])
    # to the image at 30°: ½ and cos 30°; the conditioning photo at 0°: cos 30°
    near, far = math.cos(math.radians(30)), (0.5 + math.cos(math.radians(30))) / 2
    assert copy_index(at(30), at(0, 3.0), held_out) == pytest.approx((near - far) / (1 - 0.25))


def test_without_other_photos_there_is_no_index() -> None:
    assert copy_index(at(30), at(0), torch.empty(0)) is None
    assert copy_index(at(30), at(0), torch.empty(0, 2)) is None
    assert copy_index(at(30), at(0), at(0, 5.0)[None]) is None  # the same photo over again
    assert copy_index(at(30), at(0), at(8)[None]) is None  # or nearly: 1 − cos 8° < 0.01
    assert copy_index(at(30), at(0), at(9)[None]) is not None


def test_mean_distances_by_hand() -> None:
    found = mean_distances(torch.stack([at(0), at(90, 9.0), at(180)]))
    assert found.tolist() == pytest.approx([1.5, 1.0, 1.5])
    assert mean_distances(at(10).repeat(3, 1)).tolist() == pytest.approx([0] * 3, abs=1e-9)


def test_a_image_alone_has_no_distance() -> None:
    with pytest.raises(ValueError, match="alone"):
        mean_distances(at(0)[None])
