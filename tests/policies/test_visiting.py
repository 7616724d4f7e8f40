"""Weights that wait: the device "meta" plays the GPU."""

from __future__ import annotations

import torch
from torch import nn

from likewise.policies.common.visiting import Visitors


def parts() -> dict[str, nn.Module | str]:
    text = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).requires_grad_(False)
    text[2].weight = text[0].weight
    return {"text_encoder": text, "vae": nn.Linear(2, 2).requires_grad_(False), "tokenizer": "none"}


def devices(part: nn.Module) -> set[str]:
    return {one.device.type for one in (*part.parameters(), *part.buffers())}


def test_visitors_leave_without_being_copied_back() -> None:
    known = parts()
    text, vae = known["text_encoder"], known["vae"]
    assert isinstance(text, nn.Sequential) and isinstance(vae, nn.Module)
    before = {name: one.data_ptr() for name, one in text.state_dict().items()}
    visitors = Visitors(known, torch.device("meta"))
    with visitors.visiting("text_encoder", "image_encoder"):
        assert devices(text) == {"meta"} and devices(vae) == {"cpu"}
        assert text[0].weight is text[2].weight  # shared there too
        assert not any(one.requires_grad for one in text.parameters())
    assert devices(text) == {"cpu"}
    assert {name: one.data_ptr() for name, one in text.state_dict().items()} == before


def test_whoever_visits_twice_may_stay_between() -> None:
    known = parts()
    vae = known["vae"]
    assert isinstance(vae, nn.Module)
    visitors = Visitors(known, torch.device("meta"))
    with visitors.staying():
        assert devices(vae) == {"cpu"}  # until it is needed
        with visitors.visiting("vae"):
            first = vae.weight
        with visitors.visiting("vae"):
            assert vae.weight is first
    assert devices(vae) == {"cpu"}


def test_nothing_moves_where_there_is_one_device() -> None:
    known = parts()
    for device in (None, torch.device("cpu")):
        visitors = Visitors(known, device)
        with visitors.visiting("text_encoder"):
            assert visitors.here == ["text_encoder"]
        assert not visitors.here
