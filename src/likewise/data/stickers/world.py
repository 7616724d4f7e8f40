"""The sticker world as tasks: any number of training tasks, and the fixed *sticker bench*.

Sticker bench = 30 held-out subjects × 25 prompts (8 scene, 5 property, 4 layout, 8 combination),
written down in ``bench.json``; images are rendered from it, deterministically.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from likewise.data.stickers.art import StickerArt, shipped_art
from likewise.data.stickers.marks import random_mark
from likewise.data.stickers.prompts import constraints_of, kind_and_complexity, write_prompt
from likewise.data.stickers.rendering import COLOURS, Drawing, Spec, Variant, render
from likewise.data.stickers.scenes import SCENES
from likewise.data.subsets import spread
from likewise.seeding import numpy_rng
from likewise.types import Task

BENCH_FILE = Path(__file__).parent / "bench.json"
OTHER_PHOTOS = 4
TUNING_SEED = 777  # of a stream that no recipe trains on
TUNING_TASKS = 300

KINDS = {"scene": 0.4, "property": 0.15, "layout": 0.15, "combination": 0.3}  # of training tasks

_LAYOUTS = (
    {"size": "tiny"},
    {"size": "huge"},
    {"place": "left"},
    {"place": "right"},
    {"size": "tiny", "place": "left"},
    {"size": "tiny", "place": "right"},
)


def training_task(
    index: int, seed: int = 0, art: StickerArt | None = None, recolouring: float | None = None
) -> Task:
    """Task `index` of an endless, deterministic stream over the training subjects.

    Args:
        recolouring: Share of tasks that ask for another colour and nothing else; the other kinds
            keep their proportions. None: 0.15, as `KINDS` has it.
    """
    art = art or shipped_art()
    rng = numpy_rng("training task", seed, index)
    subjects = art.subjects(held_out=False)
    subject = subjects[rng.integers(len(subjects))]
    kind = tuple(KINDS)[rng.choice(len(KINDS), p=_odds(recolouring))]
    constraints = _random_constraints(kind, int(rng.integers(2, 4)), rng)
    prompt = write_prompt(art[subject].name, constraints, rng)
    return make_task(f"train-{seed}-{index}", subject, prompt, constraints, art)


def bench_tasks(art: StickerArt | None = None, path: Path = BENCH_FILE) -> list[Task]:
    """The 750 tasks of sticker bench, in manifest order.

    Raises:
        FileNotFoundError, ValueError: the manifest is absent or damaged (the message names it).
    """
    art = art or shipped_art()
    if not path.exists():
        raise FileNotFoundError(f"bench manifest not found: {path}; run scripts/build_bench.py")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [
            make_task(row["id"], row["subject"], row["prompt"], row["constraints"], art)
            for row in rows
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"bench manifest is damaged: {path}: {error!r}") from error


def bench_subset(count: int) -> list[Task]:
    """`count` bench tasks spread evenly over subjects and over each subject's prompts.

    A larger subset contains the smaller ones; all 750 from `count` = 750 on.
    """
    return spread(bench_tasks(), count)


def tuning_tasks() -> list[Task]:
    """Tasks about training subjects that no training draws, to choose settings by.

    What was chosen is then judged on sticker bench, which no choice has seen.
    """
    return [training_task(index, TUNING_SEED) for index in range(TUNING_TASKS)]


def make_task(
    id: str, subject: str, prompt: str, constraints: Mapping[str, str], art: StickerArt
) -> Task:
    """A task with its images; everything random about them follows from subject and id.

    All tasks of a held-out subject share one reference and its other photos, as in DreamBench.
    """
    sticker = art[subject]
    constraints = constraints_of(constraints)
    kind, complexity = kind_and_complexity(constraints)
    shared = subject if sticker.held_out else id
    photos = subject_photos(subject, shared, art)
    return Task(
        id=id,
        prompt=prompt,
        class_name=sticker.name,
        subject=subject,
        category=sticker.category,
        kind=kind,
        complexity=complexity,
        reference=photos.reference.image,
        reference_mask=photos.reference.mask,
        other_photos=photos.others,
        constraints=constraints,
    )


@dataclass(frozen=True)
class SubjectPhotos:
    """The image that conditions the generator, and others that it never sees."""

    reference: Drawing
    others: tuple[Image.Image, ...]


@functools.lru_cache(maxsize=256)
def subject_photos(subject: str, key: str, art: StickerArt) -> SubjectPhotos:
    """Photos of a subject, unmodified, at usual size and place; `key` tells sets apart.

    The reference has a busy background half of the time, the others always.
    """
    rng = numpy_rng("reference", subject, key)
    scene = _pick(rng, tuple(SCENES)) if rng.random() < 0.5 else None
    variant = individual(key)
    reference = render(art, Spec(subject, scene=scene, variant=variant), rng)
    others = []
    for number in range(OTHER_PHOTOS):
        rng = numpy_rng("other photo", subject, key, number)
        spec = Spec(subject, scene=_pick(rng, tuple(SCENES)), variant=variant)
        others.append(render(art, spec, rng).image)
    return SubjectPhotos(reference, tuple(others))


def individual(key: str) -> Variant:
    """Which individual of its kind a task is about: the sticker's own colours, and a mark."""
    return Variant(random_mark(numpy_rng("individual", key)))


def truth(task: Task, seed: int = 0, art: StickerArt | None = None) -> Drawing:
    """An image that fulfils the task perfectly: what the world itself would draw."""
    rng = numpy_rng("truth", task.id, seed)
    art = art or shipped_art()
    key = task.subject if art[task.subject].held_out else task.id
    return render(art, Spec(task.subject, variant=individual(key), **task.constraints), rng)


def asked_for(task: Task) -> Image.Image:
    """The world's own drawing of a task, to compare images with; another one than `truth`'s.

    The same object for equal tasks, so that it is encoded once.
    """
    return _asked_for(task.subject, task.id, tuple(sorted(task.constraints.items())))


@functools.lru_cache(maxsize=2048)
def _asked_for(subject: str, id: str, constraints: tuple[tuple[str, str], ...]) -> Image.Image:
    art = shipped_art()
    key = subject if art[subject].held_out else id
    wanted = Spec(subject, variant=individual(key), **dict(constraints))
    return render(art, wanted, numpy_rng("asked for", id)).image


def make_bench(art: StickerArt | None = None) -> list[dict[str, object]]:
    """The rows of the bench manifest, from scratch (``scripts/build_bench.py`` writes them)."""
    art = art or shipped_art()
    rows: list[dict[str, object]] = []
    for subject in art.subjects(held_out=True):
        rng = numpy_rng("sticker bench", subject)
        for number, constraints in enumerate(_bench_constraints(rng)):
            prompt = write_prompt(art[subject].name, constraints, rng)
            row = {"id": f"{subject}-{number:02d}", "subject": subject, "prompt": prompt}
            rows.append({**row, "constraints": constraints})
    return rows


def _bench_constraints(rng: np.random.Generator) -> list[dict[str, str]]:
    """25 sets of constraints for one subject, with no scene or colour repeated within a kind."""
    scenes = [str(scene) for scene in rng.permutation(list(SCENES))]
    colours = [str(colour) for colour in rng.permutation(list(COLOURS))]
    layouts = [_LAYOUTS[int(i)] for i in rng.permutation(len(_LAYOUTS))]
    single = (
        [{"scene": scene} for scene in scenes[:8]]
        + [{"colour": colour} for colour in colours[:5]]
        + layouts[:4]
    )
    return single + [
        _random_constraints("combination", kinds, rng) for kinds in (2, 2, 2, 2, 2, 3, 3, 3)
    ]


def _random_constraints(kind: str, kinds: int, rng: np.random.Generator) -> dict[str, str]:
    """Random constraints of a kind; `kinds` (2 or 3) says how many kinds a combination mixes."""
    parts: dict[str, dict[str, str]] = {
        "scene": {"scene": _pick(rng, tuple(SCENES))},
        "property": {"colour": _pick(rng, tuple(COLOURS))},
        "layout": _LAYOUTS[rng.integers(len(_LAYOUTS))],
    }
    if kind != "combination":
        return dict(parts[kind])
    chosen = [tuple(parts)[i] for i in sorted(rng.permutation(3)[:kinds])]
    return {key: value for name in chosen for key, value in parts[name].items()}


def _odds(recolouring: float | None) -> list[float]:
    if recolouring is None:
        return list(KINDS.values())
    others = (1 - recolouring) / (1 - KINDS["property"])
    return [recolouring if kind == "property" else odds * others for kind, odds in KINDS.items()]


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
