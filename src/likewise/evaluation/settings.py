"""What decides the numbers of an evaluation, so that others are never mixed in: settings.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from likewise.records.atomic import write_atomically

SETTINGS = "settings.json"
# In these, systems of one table may differ.
OF_DRAWING = {"images_per_prompt", "seed", "num_steps", "source"}


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation.

    Attributes:
        benchmark: Its name.
        protocol: Name of one of ``protocols.PROTOCOLS``.
        tasks: How many of the benchmark.
        images_per_prompt: Images per task.
        seed, num_steps: Of the drawing; None for images of other systems and for photos.
        encoders: Metric → the model that measures it (``{"dino": "facebook/dino-vits16"}``), for
            rewards and evaluators too (``reward/prompt``).
        left_out: How many of the benchmark's tasks are not used because they chose the checkpoint;
            None for none.
        source: What the images come from: a run's checkpoint, a model, a folder.
    """

    benchmark: str
    protocol: str
    tasks: int
    images_per_prompt: int
    seed: int | None = None
    num_steps: int | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    left_out: int | None = None

    def facts(self) -> dict[str, object]:
        """Name → value of all that was set; encoders one by one, as ``encoder of dino``."""
        fields = asdict(self)
        encoders = fields.pop("encoders")
        return fields | {f"encoder of {metric}": model for metric, model in encoders.items()}


def claim_folder(folder: Path, settings: Settings) -> None:
    """Make `folder` that of an evaluation with these settings, or check that it is.

    Raises:
        ValueError: it holds an evaluation with other settings (the message names them).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS).exists():
        write_atomically(folder / SETTINGS, json.dumps(asdict(settings), indent=2) + "\n")
    old, new = read_settings(folder).facts(), settings.facts()
    changed = [fact for fact in {**old, **new} if old.get(fact) != new.get(fact)]
    if changed:
        differences = [f"{fact}: {old.get(fact)}, not {new.get(fact)}" for fact in changed]
        raise ValueError(
            f"{folder} holds an evaluation with other settings ({'; '.join(differences)}): "
            "give another folder, or the same settings to go on with it"
        )


def read_settings(folder: Path) -> Settings:
    """The settings of an evaluation folder.

    Raises:
        ValueError: there is no settings.json, or it is damaged.
    """
    file = folder / SETTINGS
    try:
        return Settings(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{folder} is not an evaluation: it has no {SETTINGS}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
