"""The files of a model's folder: which hold its weights, and whether they can be what they say.

Only headers are read here, so that nothing is allocated for a file that lies about its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from likewise.pretrained.errors import ModelError, one_line

CONFIG, PIPELINE = "config.json", "model_index.json"
STEMS = ("model", "diffusion_pytorch_model")  # transformers' and diffusers' names of weights
DOCUMENTS = (
    CONFIG,
    PIPELINE,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "scheduler_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
UNREAD = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx")
COUNTS = re.compile(r"layers|depths?$|^num_\w*blocks?$")  # settings that are numbers of modules
FEW = 128  # modules that are quickly built, whatever their weights
MOST_TIMESTEPS = 1_000_000  # of a scheduler, which makes tables of that length


@dataclass(frozen=True)
class Weights:
    """Where a folder keeps a model's weights.

    Attributes:
        files: Safetensors files.
        variant: What stands in their names before the suffix, such as ``fp16``; None: nothing.
    """

    files: tuple[Path, ...]
    variant: str | None = None

    def sizes(self) -> Iterator[int]:
        """How many numbers each tensor has."""
        for file in self.files:
            for shape in tensor_shapes(file).values():
                size = 1
                for length in shape:
                    size *= length
                yield size


def read_document(file: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        ModelError: the file is missing, cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{file.parent} has no {file.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON that can be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds a {type(content).__name__}, not a JSON object")
    return content


def check_documents(folder: Path) -> None:
    """Raise ModelError, naming the file, if one of the folder's known JSON files is damaged."""
    for name in DOCUMENTS:
        if (folder / name).exists():
            content = read_document(folder / name)
            if name == "scheduler_config.json":
                _check_timesteps(folder / name, content)


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors; its data stays unread.

    Raises:
        ModelError: the file is missing, truncated, or not a safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            return {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is not an intact safetensors file: {one_line(error)}") from error


def find_weights(folder: Path) -> Weights:
    """The weights of a model in `folder`, whose headers have been read.

    Where there are only weights of one variant (``model.fp16.safetensors``), those are taken.

    Raises:
        ModelError: there are none, only formats that are not read, or a file is missing or damaged.
    """
    for stem in STEMS:
        for variant in (None, *_variants(folder, stem)):
            files = _stored(folder, stem, variant)
            if files:
                for file in files:
                    tensor_shapes(file)
                return Weights(files, variant)
    others = sorted(file.name for file in folder.iterdir() if file.suffix in UNREAD)
    if others:
        raise ModelError(
            f"{folder} has no safetensors file, and {others[0]} is not read: pickles may run code; "
            "save the model as safetensors"
        )
    raise ModelError(f"{folder} has no weights: wanted {' or '.join(_names(STEMS))}")


def check_counts(config: Mapping[str, Any], tensors: int, file: Path) -> None:
    """Refuse a config with more layers than its weights have tensors.

    Building a model of a billion layers never ends, even without memory for any weights.

    Raises:
        ModelError: a count, in whatever section, is larger; `file` and its name are given.
    """
    for name, value in config.items():
        if isinstance(value, Mapping) and name not in ("id2label", "label2id"):
            check_counts(value, tensors, file)
        if COUNTS.search(name):
            for count in value if isinstance(value, list) else [value]:
                if isinstance(count, int | float) and count > max(tensors, FEW):
                    raise ModelError(
                        f"{file}: {name} is {count:g}, but the weights have {tensors} tensors"
                    )


def _stored(folder: Path, stem: str, variant: str | None) -> tuple[Path, ...]:
    infix = "" if variant is None else f".{variant}"
    whole = folder / f"{stem}{infix}.safetensors"
    if whole.is_file():
        return (whole,)
    index = folder / f"{stem}.safetensors.index{infix}.json"
    return _indexed(index) if index.is_file() else ()


def indexed_names(index: Path) -> list[str]:
    """The names of the files that an index of weights lists, all of them to be beside it.

    Raises:
        ModelError: it lists none, or files elsewhere.
    """
    names = read_document(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(map(_is_file_name, names.values())):
        raise ModelError(f"{index} has no weight_map from tensors to safetensors files beside it")
    return sorted(set(names.values()))


def _indexed(index: Path) -> tuple[Path, ...]:
    files = tuple(index.parent / name for name in indexed_names(index))
    for file in files:
        if not file.is_file():
            raise ModelError(f"{index.parent} has no {file.name}, which its {index.name} lists")
    return files


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name) is not None


def _variants(folder: Path, stem: str) -> list[str]:
    whole = rf"{stem}\.([\w-]+)\.safetensors"
    index = rf"{stem}\.safetensors\.index\.([\w-]+)\.json"
    names = (file.name for file in folder.iterdir())
    found = (re.fullmatch(f"{whole}|{index}", name) for name in names)
    return sorted({match[1] or match[2] for match in found if match})


def _names(stems: tuple[str, ...]) -> list[str]:
    return [f"{stem}.safetensors" for stem in stems]


def _check_timesteps(file: Path, content: Mapping[str, Any]) -> None:
    count = content.get("num_train_timesteps", 1000)
    if not isinstance(count, int) or not 0 < count <= MOST_TIMESTEPS:
        raise ModelError(
            f"{file}: num_train_timesteps must be between 1 and {MOST_TIMESTEPS}, not {count!r:.40}"
        )
