"""Human studies of what systems drew, and people's preferences as a reward."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.people.creating import Drawn, Wishes, create
from likewise.people.files import PeopleStudy

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from likewise.evaluation.items import Item
    from likewise.types import Task

EVALUATION, AFTER = "evaluation", "after"
# Scores that say nothing of which of two images is better.
UNRANKED = ("/copy-index", "/diversity", "/photos", "/truncated")


def create_people_study(
    folder: Path, systems: Sequence[str], wishes: Wishes, benchmark: str | Path = "sticker-bench"
) -> PeopleStudy:
    """Make a human study of what systems drew.

    Args:
        systems: Each a run that was evaluated, or a folder with ``manifest.jsonl``, as ``FOLDER``
            or ``NAME=FOLDER``.
        benchmark: Whose tasks they drew; it has the references.

    Raises:
        ValueError: a folder holds no images, does not fit the benchmark, or two have one name; and
            as `people.creating.create`.
    """
    from likewise.builders.benchmarks import load_benchmark

    folders = named_folders(systems)
    tasks = load_benchmark(benchmark)
    drawn = {name: _drawn(one, tasks) for name, one in folders.items()}
    wishes = replace(wishes, benchmark=str(benchmark), rewards=_rewards(list(folders.values())))
    return create(folder, drawn, wishes)


def named_folders(systems: Sequence[str]) -> dict[str, Path]:
    """Name → folder with a manifest.

    Raises:
        ValueError: as `create_people_study`.
    """
    found: dict[str, Path] = {}
    for word in systems:
        name, sign, path = word.rpartition("=")
        folder = _images_of(Path(path))
        name = name if sign else _name(folder)
        if name in found or not name:
            raise ValueError(f"two systems are called {name!r}: name them, as in NAME={path}")
        found[name] = folder
    return found


def _images_of(folder: Path) -> Path:
    """The folder itself, or of a run what it drew after training."""
    from likewise.evaluation.manifest import MANIFEST

    if (folder / MANIFEST).is_file():
        return folder
    evaluated = sorted(folder.glob(f"{EVALUATION}/*/{AFTER}/{MANIFEST}"))
    if len(evaluated) == 1:
        return evaluated[0].parent
    if evaluated:
        several = ", ".join(str(file.parent) for file in evaluated)
        raise ValueError(f"{folder} was evaluated several times: give one of {several}")
    raise ValueError(
        f"{folder} has no images: give a run after `likewise evaluate`, or a folder with {MANIFEST}"
    )


def _name(folder: Path) -> str:
    """The run's name for its images after training, with "before" for those before."""
    path = folder.resolve()
    if path.parent.parent.name != EVALUATION:
        return path.name
    run = path.parent.parent.parent.name
    return run if path.name == AFTER else f"{run} {path.name}"


def _drawn(folder: Path, tasks: Sequence[Task]) -> list[Drawn]:
    from likewise.evaluation.items import read_items

    scores = _scores(folder)
    return [
        Drawn(item.task, item.number, _reader(item), scores.get(item.file, {}))
        for item in read_items(folder, tasks)
    ]


def _reader(item: Item) -> Callable[[], Image.Image]:
    return item.image


def _scores(folder: Path) -> Mapping[str, Mapping[str, float]]:
    """File → known scores; empty where nothing was scored."""
    from likewise.report.reading import read_drawn

    drawn = read_drawn(folder)
    if drawn is None:
        return {}
    names = [name for name in drawn.scores.column_names if _ranks(drawn.scores, name)]
    return {
        row["file"]: {name: row[name] for name in names if row[name] is not None}
        for row in drawn.scores.to_pylist()
    }


def _ranks(table: pa.Table, name: str) -> bool:
    """Whether a column has numbers of which a higher one is better."""
    import pyarrow as pa

    return pa.types.is_floating(table.schema.field(name).type) and not name.endswith(UNRANKED)


def _rewards(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Credited rewards of the first run among the systems, as in its recipe; empty without one."""
    from likewise.records import RunDirectory
    from likewise.records.run_directory import RECIPE

    for folder in folders:
        run = folder.resolve().parents[2]
        if folder.resolve().parents[1].name == EVALUATION and (run / RECIPE).is_file():
            credited = RunDirectory.open(run).recipe.credited
            return {name: one.model_dump(mode="json") for name, one in credited.items()}
    return {}


def linear_preference(file: Path) -> Callable[..., list[float | None]]:
    """A reward function from ``preference.json``: the weighted sum of the rewards it names.

    Rewards are loaded with the first images. An image to which any reward gives no value gets None.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        weights = {str(name): float(weight) for name, weight in content["weights"].items()}
        settings = {name: dict(content["rewards"][name]) for name in weights}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error!r}") from error

    @cache
    def rewards() -> dict[str, Any]:
        from likewise.builders.rewards import build_reward

        return {name: build_reward(one.pop("kind"), one) for name, one in settings.items()}

    def score(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
        sums: list[float | None] = [0.0] * len(images)
        for name, reward in rewards().items():
            values, valid = reward.score(images, tasks)
            for index, (value, known) in enumerate(
                zip(values.tolist(), valid.tolist(), strict=True)
            ):
                old = sums[index]
                sums[index] = None if old is None or not known else old + weights[name] * value
        return sums

    return score
