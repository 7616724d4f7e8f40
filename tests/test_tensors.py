"""Safetensors files: errors that say which file, permissions by the umask, finite numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from likewise import tensors


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = {"a": torch.arange(3), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    tensors.save(saved, tmp_path / "x.safetensors", {"about": "it"})
    loaded = tensors.load(tmp_path / "x.safetensors")
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_is_as_readable_as_the_umask_says(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        tensors.save({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == mode
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone/x\.safetensors cannot be written"):
        tensors.save({"a": torch.ones(1)}, tmp_path / "gone" / "x.safetensors")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged, or not a safetensors file"):
        tensors.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    odd = {"fine": torch.ones(2), "odd": torch.tensor([1.0, value]), "odd2": torch.tensor(value)}
    tensors.save(odd, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not finite .* in odd and 1 more"):
        tensors.load(tmp_path / "x.safetensors")
