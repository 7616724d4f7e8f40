"""Which kind of dataset lies at a path, from the names of files."""

from __future__ import annotations

from pathlib import Path

from likewise.data.sources.dreambench_files import PROMPTS as DREAMBENCH_PROMPTS
from likewise.data.sources.folder import PROMPTS as FOLDER_PROMPTS
from likewise.data.sources.syncd import PATTERN as SYNCD_METADATA
from likewise.images import is_litter


def guess_kind(path: Path) -> str:
    """The `data.kind` of what is at `path`.

    Raises:
        ValueError: `path` does not exist, or has no files of a known kind.
    """
    if not path.exists():
        raise ValueError(f"there is nothing at {path}")
    signs = {
        "dreambench": (DREAMBENCH_PROMPTS, f"dataset/{DREAMBENCH_PROMPTS}"),
        "syncd": (SYNCD_METADATA,),
        "subjects200k": ("*.parquet", "data/*.parquet"),
        "folder": (FOLDER_PROMPTS, f"*/{FOLDER_PROMPTS}"),
    }
    if path.is_file():
        kinds = {".jsonl": "jsonl", ".parquet": "subjects200k"}
        if path.suffix in kinds:
            return kinds[path.suffix]
    for kind, patterns in signs.items():
        found = (file.relative_to(path) for pattern in patterns for file in path.glob(pattern))
        if any(not any(map(is_litter, file.parts)) for file in found):
            return kind
    known = "; ".join(f"{kind}: {' or '.join(patterns)}" for kind, patterns in signs.items())
    raise ValueError(
        f"{path} has none of the files by which a kind is known (jsonl: *.jsonl; {known}): "
        "say which it is, with --kind"
    )
