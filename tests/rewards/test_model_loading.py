"""Models are loaded whole or refused, in one line that names folder, file or tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_encoders
import tiny_segmenters
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, CLIPModel

from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor, load_tokenizer
from likewise.rewards.clip import ClipI, ClipReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.rewards.pickscore import PickScoreReward
from likewise.rewards.segmenters import load_segmenter

SIZE = {"height": 16, "width": 24, "max_sequence_length": 8}
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models of every kind, and a pipeline."""
    folder = tmp_path_factory.mktemp("models")
    tiny_encoders.save_encoders(folder)
    tiny_segmenters.save_clipseg(folder / "clipseg")
    tiny_segmenters.save_segformer(folder / "segformer")
    tiny.tiny_pipeline().save_pretrained(folder / "pipeline")
    return folder


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(models / name, tmp_path / name))


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    file = weights_of(folder)
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def longest_name(folder: Path) -> str:
    """Of the weights that are not counters."""
    return max((k for k, v in load_file(weights_of(folder)).items() if v.dim()), key=len)


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def one_line(error: pytest.ExceptionInfo[BaseException], folder: Path) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 800
    assert folder.name in message
    return message


LOADERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "dino": ("dinov2", DinoReward),
    "dino-vit": ("vit", DinoReward),
    "dinov3": ("dinov3", DinoReward),
    "dreambench": ("dinov2", lambda folder: DinoReward(folder, transform="dreambench")),
    "clip-t": ("clip", ClipReward),
    "clip-i": ("clip", ClipI),
    "pickscore": ("clip", PickScoreReward),
    "identity": ("identity", IdentityEvaluator),
    "prompt": ("attributes", PromptEvaluator),
    "clipseg": ("clipseg", lambda folder: load_segmenter(str(folder))),
    "segformer": ("segformer", lambda folder: load_segmenter(str(folder))),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_missing_or_bad_weight_is_refused_by_name(copy, loader: str) -> None:
    kind, load = LOADERS[loader]
    folder = copy(kind)
    load(folder)
    name = longest_name(folder)  # libraries may call it otherwise: only how it ends is sure
    change_weights(folder, lambda tensors: tensors[name].view(-1)[0].fill_(torch.nan))
    with pytest.raises(ValueError, match=rf"not finite.* in \S+{name[-7:]}: ") as caught:
        load(folder)
    one_line(caught, folder)
    change_weights(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ValueError, match="is incomplete: its weights lack") as caught:
        load(folder)
    one_line(caught, folder)


@pytest.mark.parametrize("part", PARTS)
def test_a_pipeline_with_a_part_that_lacks_a_weight_is_refused(copy, part: str) -> None:
    folder = copy("pipeline")
    name = longest_name(folder / part)
    change_weights(folder / part, lambda tensors: tensors[name].view(-1)[0].fill_(torch.nan))
    with pytest.raises(ValueError, match=f"{part} .*not finite.* in {name}"):
        FluxKontextPolicy.from_pretrained(folder, **SIZE)
    change_weights(folder / part, lambda tensors: tensors.pop(name))
    with pytest.raises(ValueError, match=f"{part} is incomplete: its weights lack") as caught:
        FluxKontextPolicy.from_pretrained(folder, **SIZE)
    one_line(caught, folder)


def prefixed(tensors: Tensors) -> None:
    for key in list(tensors):
        tensors[f"module.{key}"] = tensors.pop(key)


def without_vision(tensors: Tensors) -> None:
    for key in [key for key in tensors if key.startswith("vision_model.")]:
        del tensors[key]


def with_another_layer(tensors: Tensors) -> None:
    for key in [key for key in tensors if ".layer.1." in key]:
        tensors[key.replace(".layer.1.", ".layer.2.")] = tensors[key].clone()


def wider(tensors: Tensors) -> None:
    tensors["embeddings.cls_token"] = torch.zeros(1, 1, 17)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("dinov2", prefixed, r"lack embeddings\.\S+, .* and \d+ more, and hold module\.\S+, "),
        ("clip", without_vision, r"lack vision_model\.\S+, .* and \d+ more"),
        ("dinov2", with_another_layer, r"hold encoder\.layer\.2\.\S+, .*has no place"),
        ("dinov2", wider, r"cls_token is \[1, 1, 17\] in its weights, but \[1, 1, 16\] by its con"),
        ("dinov2", dict.clear, "is incomplete"),
    ],
)
def test_weights_of_another_network_are_refused(copy, kind, change, message) -> None:
    folder = copy(kind)
    change_weights(folder, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(AutoModel, folder)
    one_line(caught, folder)


def test_what_lies_beside_a_network_may_be_in_its_file(copy) -> None:
    folder = copy("vit")
    change_weights(folder, lambda tensors: tensors.update({"pooler.dense.bias": torch.ones(16)}))
    change_weights(folder, lambda tensors: tensors.update({"classifier.bias": torch.ones(3)}))
    assert DinoReward(folder).embed([tiny_encoders.make_image(0)]).isfinite().all()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.gguf"])
def test_pickles_and_other_formats_are_not_read(copy, name: str) -> None:
    folder = copy("clip")
    weights_of(folder).unlink()
    model = CLIPModel(CLIPModel.config_class.from_pretrained(folder))
    torch.save(model.state_dict(), folder / name)
    with pytest.raises(ValueError, match=f"no safetensors file, and {name} is not read") as caught:
        ClipReward(folder)
    one_line(caught, folder)


def test_a_folder_of_one_variant_is_read(copy) -> None:
    folder = copy("dinov2")
    wanted = DinoReward(folder).embed([tiny_encoders.make_image(0)])
    weights_of(folder).rename(folder / "model.fp16.safetensors")
    assert torch.equal(DinoReward(folder).embed([tiny_encoders.make_image(0)]), wanted)


def test_a_pipeline_of_one_variant_is_read(copy) -> None:
    folder = copy("pipeline")
    for part in PARTS:
        file = weights_of(folder / part)
        file.rename(file.with_name(file.name.replace(".", ".fp16.")))
    assert FluxKontextPolicy.from_pretrained(folder, **SIZE)


@pytest.mark.parametrize("suffix", ["safetensors", "gguf", "ckpt"])
def test_a_single_file_is_no_model(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"flux.{suffix}"
    file.write_bytes(b"weights")
    with pytest.raises(ValueError, match=rf"flux\.{suffix} is a single file; wanted a folder"):
        FluxKontextPolicy.from_pretrained(file, **SIZE)
    with pytest.raises(ValueError, match=rf"flux\.{suffix} is a file; wanted a folder"):
        load_model(AutoModel, file)


# --- damaged folders -----------------------------------------------------------------------------

TEXTS = ("", "null", "[]", "7", "{", '{"a": ', "[" * 100_000, "\x00", '"text"')


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_damaged_json_is_named(copy, name: str, text: str) -> None:
    folder = copy("dinov2")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"dinov2/{name}") as caught:
        DinoReward(folder)
    one_line(caught, folder)


HUGE = 10**9


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": HUGE},
        {"hidden_size": HUGE},
        {"hidden_size": 2 * 10**5, "num_attention_heads": 1},
        {"image_size": HUGE},
        {"hidden_size": "wide"},
        {"hidden_size": None},
        {"hidden_size": -16},
        {"hidden_size": [16]},
        {"num_hidden_layers": 1.5},
        {"num_attention_heads": 0},
        {"hidden_act": "no such"},
        {"mlp_ratio": 1e300},
        {"model_type": "no such"},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 0},
    ],
    ids=str,
)
def test_a_config_that_fits_no_weights_is_refused(copy, changes: dict[str, Any]) -> None:
    folder = copy("dinov2")
    change_json(folder / "config.json", **changes)
    with pytest.raises((ValueError, OSError)) as caught:
        load_model(AutoModel, folder)
    one_line(caught, folder)


# --- settings that change no weight --------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "file", "changes"),
    [
        ("transformer", "config.json", {"axes_dims_rope": None}),
        ("transformer", "config.json", {"axes_dims_rope": [2, 2, 2]}),
        ("vae", "config.json", {"scaling_factor": None}),
        ("vae", "config.json", {"shift_factor": "much"}),
        ("text_encoder", "config.json", {"eos_token_id": None}),
        ("tokenizer", "tokenizer_config.json", {"model_max_length": None}),
        ("tokenizer_2", "tokenizer_config.json", {"pad_token": None}),
        ("scheduler", "scheduler_config.json", {"base_shift": None}),
    ],
    ids=str,
)
def test_a_setting_that_breaks_the_first_forward_is_named(
    copy, part: str, file: str, changes: dict[str, Any]
) -> None:
    folder = copy("pipeline")
    change_json(folder / part / file, **changes)
    with pytest.raises(ValueError, match=f"pipeline/{part}/{file}: what it describes fails"):
        FluxKontextPolicy.from_pretrained(folder, **SIZE)


@pytest.mark.parametrize(
    ("loader", "changes"),
    [
        ("dino", {"layer_norm_eps": None}),
        ("dino-vit", {"layer_norm_eps": None}),
        ("dinov3", {"layer_norm_eps": None}),
        ("clip-t", {"vision_config": {"layer_norm_eps": None}}),
        ("clip-i", {"vision_config": {"layer_norm_eps": None}}),
        ("pickscore", {"text_config": {"layer_norm_eps": None}}),
        ("segformer", {"layer_norm_eps": None}),
    ],
    ids=str,
)
def test_a_setting_that_breaks_an_encoder_is_named(
    copy, loader: str, changes: dict[str, Any]
) -> None:
    kind, load = LOADERS[loader]
    folder = copy(kind)
    config = json.loads((folder / "config.json").read_text())
    for section, own in changes.items():
        changes[section] = {**config[section], **own} if isinstance(own, dict) else own
    change_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=rf"{kind}/config\.json") as caught:
        load(folder)
    one_line(caught, folder)


@pytest.mark.parametrize("length", [0, 7, 100, -100])
def test_truncated_weights_are_named(copy, length: int) -> None:
    folder = copy("dinov2")
    file = weights_of(folder)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{file.name} is not an intact safetensors file"):
        load_model(AutoModel, folder)


def test_shards_that_are_missing_or_elsewhere_are_named(copy, tmp_path: Path) -> None:
    folder = copy("dinov2")
    file = weights_of(folder)
    names = dict.fromkeys(load_file(file), "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    file.rename(tmp_path / "away.safetensors")
    with pytest.raises(
        ValueError, match=r"has no model-00001-of-00001\.safetensors, which its mod"
    ):
        load_model(AutoModel, folder)
    shutil.copy(tmp_path / "away.safetensors", folder / "model-00001-of-00001.safetensors")
    load_model(AutoModel, folder)
    for outside in ("../away.safetensors", str(tmp_path / "away.safetensors"), 7):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(names, outside)}))
        with pytest.raises(ValueError, match=r"index\.json has no weight_map .* beside it"):
            load_model(AutoModel, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"height": HUGE, "width": HUGE}}, "a side must be between 1 and 16384"),
        ({"crop_size": {"height": 0, "width": 8}}, "a side must be between 1 and 16384"),
        ({"size": "large"}, "its image processor"),
        ({"image_processor_type": "NoSuchProcessor"}, "its image processor"),
    ],
)
def test_a_processor_that_cannot_be_is_refused(copy, changes, message) -> None:
    folder = copy("dinov2")
    change_json(folder / "preprocessor_config.json", **changes)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        load_image_processor(folder)
    one_line(caught, folder)


@pytest.mark.parametrize("text", ["{}", '{"model": 7}', '{"model": {"type": "none"}}'])
def test_a_damaged_tokenizer_is_named(copy, text: str) -> None:
    folder = copy("clip")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises((ValueError, OSError), match="clip: its tokenizer") as caught:
        load_tokenizer(folder)
    one_line(caught, folder)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "{"])
def test_a_damaged_pipeline_index_is_named(copy, text: str) -> None:
    folder = copy("pipeline")
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        FluxKontextPolicy.from_pretrained(folder, **SIZE)
    one_line(caught, folder)


@pytest.mark.parametrize(
    "described", [["os", "system"], ["here", "Mine"], ["diffusers"], ["transformers", "x", "y"], 7]
)
def test_parts_of_other_libraries_are_never_imported(copy, monkeypatch, described) -> None:
    folder = copy("pipeline")
    (folder / "here.py").write_text("raise SystemExit('code of a model ran')\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    change_json(folder / "model_index.json", vae=described)
    with pytest.raises(ValueError) as caught:
        FluxKontextPolicy.from_pretrained(folder, **SIZE)
    one_line(caught, folder)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("scheduler", {"num_train_timesteps": 10**12}),
        ("scheduler", {"num_train_timesteps": "many"}),
        ("transformer", {"num_layers": HUGE}),
        ("transformer", {"num_attention_heads": HUGE}),
        ("transformer", {"in_channels": "x"}),
        ("vae", {"block_out_channels": [HUGE, HUGE]}),
        ("vae", {"latent_channels": 0}),
        ("text_encoder", {"vocab_size": 10**12}),
        ("text_encoder_2", {"d_model": [1]}),
    ],
)
def test_a_damaged_part_of_a_pipeline_is_named(copy, part: str, changes: dict[str, Any]) -> None:
    folder = copy("pipeline")
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    change_json(folder / part / name, **changes)
    with pytest.raises((ValueError, OSError), match=part) as caught:
        FluxKontextPolicy.from_pretrained(folder, **SIZE)
    one_line(caught, folder)


def test_code_that_a_model_brings_is_never_run(copy, monkeypatch) -> None:
    folder = copy("dinov2")
    (folder / "mine.py").write_text("raise SystemExit('code of a model ran')\n")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}})
    )
    monkeypatch.setattr("builtins.input", lambda *words: "y")
    with pytest.raises((ValueError, OSError)) as caught:
        DinoReward(folder)
    one_line(caught, folder)
