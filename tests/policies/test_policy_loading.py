"""Pipelines that are not what was asked for, and settings that cannot be had, are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from likewise.policies.common import pipeline_loading
from likewise.policies.common.pipeline_loading import load_pipeline
from likewise.policies.flux_kontext import FluxKontextPolicy

SIZE = {"height": 16, "width": 24, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    tiny.tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("part", ["vae", "text_encoder_2", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / part)
    with pytest.raises(ValueError, match=f"no sub-folder '{part}'"):
        FluxKontextPolicy.from_pretrained(copy, **SIZE)


def test_parts_may_be_left_out_or_brought_along(folder: Path) -> None:
    classes = FluxKontextPolicy.pipeline_classes
    own = tiny.tiny_pipeline().vae
    pipeline = load_pipeline(
        folder,
        classes,
        "transformer",
        torch.float32,
        "cpu",
        without=("text_encoder_2", "no_such_part"),
        parts=lambda name: {"vae": own},
    )
    assert pipeline.text_encoder_2 is None
    assert pipeline.vae is own


def test_quantization_without_its_package_says_what_to_install(folder, monkeypatch) -> None:
    monkeypatch.setattr(pipeline_loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package torchao.*likewise\[quantization\]"):
        FluxKontextPolicy.from_pretrained(folder, quantization="torchao-int8", **SIZE)
    with pytest.raises(ValueError, match="no 'int3'; one of bitsandbytes-8bit"):
        FluxKontextPolicy.from_pretrained(folder, quantization="int3", **SIZE)


def test_an_attention_backend_is_used_or_refused(make_policy, velocity) -> None:
    reference = velocity(make_policy())
    other = velocity(make_policy(attention="_native_math"))
    assert (reference - other).abs().max() < 1e-5
    assert torch.equal(velocity(make_policy()), reference)  # others keep theirs
    with pytest.raises(ValueError, match="no backend 'flash9'; diffusers has"):
        make_policy(attention="flash9")
    for name in ("flash", "sage", "_native_cudnn", "_native_efficient"):
        with pytest.raises(ValueError, match=f"'{name}' needs a GPU; on a CPU there are native,"):
            make_policy(attention=name)


def test_several_references_are_refused_where_one_is_taken(make_policy) -> None:
    task = tiny.a_task()
    task = replace(task, more_references=(tiny.photo(20, 20),))
    assert task.references == (task.reference, *task.more_references)
    with pytest.raises(ValueError, match=r"'a red duck!' has 2 references; this policy takes 1"):
        make_policy().encode([task])
