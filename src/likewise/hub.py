"""Single files on the Hub, named like a path: owner/repository/file."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download


def weights_file(name: str | Path, field: str) -> Path:
    """A local file, or one of the Hub named ``owner/repository/file``, downloaded once.

    Args:
        field: Of the recipe that names it, for messages.

    Raises:
        ValueError: there is none; the message begins with `field`.
    """
    if Path(name).is_file():
        return Path(name)
    owner, _, rest = str(name).partition("/")
    repository, _, inside = rest.partition("/")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", inside))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{field}: there is no file {name}, and the Hub gives none: {error}"
        ) from error
