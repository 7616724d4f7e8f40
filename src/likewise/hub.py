"""Files on the Hub: into its cache, and from there like any other file."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

CONVERTER = "SFconvertbot"  # the Hub's own, whose pull requests add safetensors to old models
CONVERSION = "Adding `safetensors` variant of this model"


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
            f"{field}: there is no file {name}, and the Hub gives none: {_one_line(error)}"
        ) from error


def hub_file(name: str | Path, inside: str, revision: str | None = None) -> Path:
    """A file of a repository, downloaded once.

    Args:
        name: Of the repository, as owner/name.
        inside: The file's path in it.
        revision: A branch or pull request; None for main.

    Raises:
        FileNotFoundError: the repository has no such file, or it is not in the cache while the Hub
            cannot be reached.
        OSError: there is no such repository.
    """
    try:
        return Path(hf_hub_download(str(name), inside, revision=revision))
    except LocalEntryNotFoundError as error:
        raise UnreachableError(
            f"{inside} of {name} is not in the cache, and the Hub cannot be reached: "
            f"{_one_line(error)}"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{name} has no {inside} on the Hub") from error
    except (OSError, ValueError) as error:
        raise OSError(
            f"there is no folder {name}, and the Hub gives no such model: {_one_line(error)}"
        ) from error


class UnreachableError(FileNotFoundError):
    """Nobody knows whether there is such a file: the Hub does not answer."""


def converted(name: str | Path) -> str | None:
    """The revision in which the Hub's converter has added safetensors to the newest main.

    None where there is none, or where the Hub cannot be asked. Nothing is converted for us: that
    would hand the user's token to another service.
    """
    api = HfApi()
    try:
        requests = api.get_repo_discussions(
            str(name),
            author=CONVERTER,
            discussion_type="pull_request",
            discussion_status="open",
        )
        newest = api.list_repo_commits(str(name))[0].commit_id
        for request in requests:
            if request.title == CONVERSION and request.git_reference:
                commits = api.list_repo_commits(str(name), revision=request.git_reference)
                if len(commits) > 1 and commits[1].commit_id == newest:
                    return request.git_reference
    except Exception:  # of whatever HTTP client huggingface_hub uses
        return None
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
