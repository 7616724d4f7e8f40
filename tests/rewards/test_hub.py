"""Models of the Hub: downloaded once, and checked like any folder before anything is built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import tiny_encoders
import torch
from hub_server import Hub, serving
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.pretrained.models import load_config, load_model
from likewise.rewards.clip import ClipReward
from likewise.rewards.dino import DinoReward

SIZE = {"height": 16, "width": 24, "max_sequence_length": 8}
HUGE = 10**9


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """With the tiny encoders as ``us/dinov2``, ``us/clip``, …"""
    tiny_encoders.save_encoders(tmp_path / "hub" / "us")
    with serving(tmp_path / "hub", tmp_path / "cache", monkeypatch) as found:
        yield found


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_model_is_downloaded_once_and_then_found_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tiny_encoders.make_image(0)
    wanted = DinoReward(hub.root / "us" / "dinov2").embed([image])
    for _ in range(2):
        assert torch.equal(DinoReward("us/dinov2").embed([image]), wanted)
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(hub.asked) == [f"us/dinov2/{file}" for file in files]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(DinoReward("us/dinov2").embed([image]), wanted)
    with pytest.raises(OSError, match=r"config\.json of us/vit is not in the cache, and the Hub"):
        DinoReward("us/vit")


def test_processor_and_tokenizer_come_along(hub: Hub) -> None:
    task = tiny.a_task()
    here = ClipReward(hub.root / "us" / "clip").score([task.reference], [task])[0]
    assert torch.equal(ClipReward("us/clip").score([task.reference], [task])[0], here)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": HUGE},
        {"hidden_size": HUGE},
        {"hidden_size": 2 * 10**5, "num_attention_heads": 1},
        {"image_size": HUGE},
        {"mlp_ratio": 1e300},
    ],
    ids=str,
)
def test_sizes_are_checked_before_memory_is_asked_for(hub: Hub, changes) -> None:
    change_json(hub.root / "us" / "dinov2" / "config.json", **changes)
    with pytest.raises(ValueError, match=r"us--dinov2.*config\.json") as caught:
        load_model(AutoModel, "us/dinov2")
    assert "\n" not in str(caught.value)


def test_a_damaged_config_is_named(hub: Hub) -> None:
    (hub.root / "us" / "dinov2" / "config.json").write_text("[]")
    for load in (load_config, DinoReward):
        with pytest.raises(ValueError, match=r"us--dinov2.*config\.json holds a list"):
            load("us/dinov2")


def test_shards_are_downloaded_by_their_index(hub: Hub) -> None:
    folder = hub.root / "us" / "dinov2"
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    half = len(names) // 2
    shards = {"model-1-of-2.safetensors": names[:half], "model-2-of-2.safetensors": names[half:]}
    for file, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    weight_map = {name: file for file, own in shards.items() for name in own}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = load_model(AutoModel, "us/dinov2").state_dict()
    wanted = load_model(AutoModel, folder).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    shutil.rmtree(constants.HF_HUB_CACHE)
    index["weight_map"] = dict.fromkeys(names, "../../model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json has no weight_map .* beside it"):
        load_model(AutoModel, "us/dinov2")


def test_pickles_are_not_read_unless_the_hub_has_converted_them(hub: Hub) -> None:
    folder = hub.root / "us" / "dinov2"
    converted = folder.with_name("dinov2@refs-pr-1")
    shutil.copytree(folder, converted)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    image = tiny_encoders.make_image(0)
    assert DinoReward("us/dinov2").embed([image]).isfinite().all()
    assert "us/dinov2/pytorch_model.bin" not in hub.asked
    change_json(converted / "config.json", hidden_size=2 * 10**5, num_attention_heads=1)
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(ValueError, match="describes a model of"):
        DinoReward("us/dinov2")
    shutil.rmtree(converted)
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(ValueError, match=r"has no weights: wanted model\.safetensors"):
        DinoReward("us/dinov2")


def test_a_name_that_the_hub_does_not_know_is_one_line(hub: Hub) -> None:
    with pytest.raises(
        OSError, match="there is no folder us/nobody, and the Hub gives no"
    ) as error:
        load_model(AutoModel, "us/nobody")
    assert "\n" not in str(error.value)


def test_a_whole_pipeline(hub: Hub) -> None:
    folder = hub.root / "us" / "pipeline"
    tiny.tiny_pipeline().save_pretrained(folder)

    def drawn(name: str | Path) -> torch.Tensor:
        policy = FluxKontextPolicy.from_pretrained(name, **SIZE)
        condition = policy.encode([tiny.a_task()])
        return policy.velocity(policy.initial_noise([1]), 0.6, condition)

    assert torch.equal(drawn("us/pipeline"), drawn(folder))
    weights = [name for name in hub.asked if name.endswith(".safetensors")]
    assert len(weights) == len(set(weights)) == 4
    shutil.rmtree(constants.HF_HUB_CACHE)
    change_json(folder / "transformer" / "config.json", num_layers=HUGE)
    with pytest.raises(
        ValueError, match=r"transformer/config\.json: num_layers is 1e\+09, but the"
    ):
        FluxKontextPolicy.from_pretrained("us/pipeline", **SIZE)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("model_index.json", "null", r"model_index\.json holds a NoneType"),
        ("scheduler/scheduler_config.json", '{"num_train_timesteps": 1e30}', "num_train_timesteps"),
    ],
)
def test_documents_of_a_pipeline_are_checked(hub: Hub, file: str, text: str, message: str) -> None:
    folder = hub.root / "us" / "pipeline"
    tiny.tiny_pipeline().save_pretrained(folder)
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        FluxKontextPolicy.from_pretrained("us/pipeline", **SIZE)
