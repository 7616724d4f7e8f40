"""Where the files of a model are: its folder, or the Hub's cache, into which they come first.

So a model of the Hub is checked and read like any other folder, before anything is built of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from likewise.hub import UnreachableError, converted, hub_file
from likewise.pretrained.errors import ModelError
from likewise.pretrained.weights import CONFIG, indexed_names


def config_folder(name: str | Path, subfolder: str = "") -> Path:
    """The folder with a model's config; its weights may not be there.

    Args:
        name: Folder or Hub name; `subfolder` is the path of the model in it.

    Raises:
        OSError: there is no such model.
        ModelError: it is a file.
    """
    folder = _local(name, subfolder)
    return folder or hub_file(name, _inside(subfolder, CONFIG)).parent


def model_folder(name: str | Path, subfolder: str, stems: Sequence[str]) -> Path:
    """The folder with a model's config and, if it has any, its safetensors.

    Where the main branch of a Hub's model has none, the pull request of the Hub's converter counts.

    Args:
        stems: How the names of its weights begin, likeliest first.

    Raises:
        OSError: there is no such model, or the Hub cannot be reached.
        ModelError: it is a file, or an index of weights is damaged.
    """
    local = _local(name, subfolder)
    if local is not None:
        return local
    folder = hub_file(name, _inside(subfolder, CONFIG)).parent
    if _fetch_weights(name, subfolder, stems):
        return folder
    revision = converted(name)
    if revision is not None and _fetch_weights(name, subfolder, stems, revision):
        return hub_file(name, _inside(subfolder, CONFIG), revision).parent
    return folder


def _local(name: str | Path, subfolder: str) -> Path | None:
    """None for what can only be on the Hub."""
    if Path(name).is_file():  # libraries would take it for a name on the Hub
        raise ModelError(
            f"{name} is a file; wanted a folder with {CONFIG} and safetensors, or a Hub name"
        )
    if not Path(name).is_dir():
        return None
    if not Path(name, subfolder).is_dir():
        raise FileNotFoundError(f"{name} has no sub-folder {subfolder!r}")
    return Path(name, subfolder)


def _fetch_weights(
    name: str | Path, subfolder: str, stems: Sequence[str], revision: str | None = None
) -> bool:
    """Download the weights, in one file or in those that an index lists; whether there are any."""
    unreachable = None
    for stem in stems:
        for ending in (".safetensors", ".safetensors.index.json"):
            try:
                file = hub_file(name, _inside(subfolder, stem + ending), revision)
            except UnreachableError as error:
                unreachable = error
                continue
            except FileNotFoundError:
                continue
            if ending.endswith(".json"):
                for part in indexed_names(file):
                    hub_file(name, _inside(subfolder, part), revision)
            return True
    if unreachable is not None:
        raise unreachable
    return False


def _inside(subfolder: str, file: str) -> str:
    return f"{subfolder}/{file}" if subfolder else file
