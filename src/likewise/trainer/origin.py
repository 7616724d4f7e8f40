"""What a checkpoint was made with: recipe and datasets, so that a resume notices other ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.config.comparing import flattened, is_under
from likewise.config.recipe import Recipe

ORIGIN = "origin.json"

# Fields that change no number of a run.
FREE = (
    *("name", "description", "data.workers", "policy.cache", "run.checkpoints", "run.patience"),
    *("run.trackers", "run.timeout"),
    *("data.path", "data.evaluation"),  # datasets may move: fingerprints tell
)
# Fields that change the last bits of its numbers, by the order of sums.
MACHINE = (
    *("run.device", "run.processes", "run.threads", "run.deterministic"),
    *("run.sharding", "run.shard_size", "rollout.decode_batch"),
)


@dataclass(frozen=True)
class Changes:
    """Of recipe and datasets since a checkpoint, as phrases.

    Attributes:
        learning: What would make it another run.
        machine: What changes the last bits of its numbers.
    """

    learning: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()


def write_origin(folder: Path, recipe: Recipe, fingerprints: Mapping[str, str]) -> None:
    """Add recipe and datasets to a checkpoint that is being written."""
    content = {"recipe": recipe.model_dump(mode="json"), "datasets": dict(fingerprints)}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / ORIGIN).write_text(text + "\n", encoding="utf-8")


def datasets_of(checkpoint: Path) -> dict[str, str]:
    """Fingerprints of the datasets that a checkpoint was made with; none where it says none."""
    try:
        content = json.loads((checkpoint / ORIGIN).read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in content["datasets"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def changes_since(
    checkpoint: Path, recipe: Recipe, fingerprints: Mapping[str, str] | None = None
) -> Changes:
    """What differs from the time of `checkpoint`; nothing where it says nothing.

    Args:
        fingerprints: Of the datasets; None where they are not known yet.
    """
    try:
        origin = json.loads((checkpoint / ORIGIN).read_text(encoding="utf-8"))
        content, datasets = dict(origin["recipe"]), dict(origin["datasets"])
    except (OSError, ValueError, KeyError, TypeError):
        return Changes()
    before, now = _comparable(content, recipe)
    different = {
        name: f"{name} was {before.get(name, 'not set')!r} and is {now.get(name, 'not set')!r}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and not is_under(name, FREE)
    }
    machine = tuple(text for name, text in different.items() if is_under(name, MACHINE))
    learning = [text for name, text in different.items() if not is_under(name, MACHINE)]
    for name in datasets.keys() & (fingerprints or {}).keys():
        if fingerprints is not None and fingerprints[name] != datasets[name]:
            learning.append(f"{name} holds another dataset than it did, or a changed one")
    return Changes(tuple(learning), machine)


def _comparable(content: Mapping[str, Any], recipe: Recipe) -> tuple[dict[str, Any], ...]:
    """A checkpoint's recipe and this one, flat; of a checkpoint of another version what both have.

    Fields that this version has added are at their defaults in both.
    """
    now = flattened(recipe.model_dump(mode="json"))
    try:
        return flattened(Recipe.model_validate(content).model_dump(mode="json")), now
    except ValueError:
        before = flattened(content)
        both = before.keys() & now.keys()
        return tuple({name: one[name] for name in one if name in both} for one in (before, now))


def refuse(changes: Changes, iteration: int) -> None:
    """Unless nothing has changed.

    Raises:
        ValueError: it has.
    """
    if changes.learning:
        raise ValueError(
            f"this is not what the run was trained with until iteration {iteration}: "
            f"{'; '.join(changes.learning)}. Put it back, or go on with what is there now: "
            "--accept-changes"
        )
