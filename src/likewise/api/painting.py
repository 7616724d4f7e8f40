"""One image at a time, with its scores: what the app's playground asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.types import Task

if TYPE_CHECKING:
    from PIL import Image

    from likewise.config import Recipe
    from likewise.protocols import Policy, Reward

HELD = 2  # models in memory at once; more while all of them are small
SMALL = 2**30  # bytes
EXAMPLES = 30


@dataclass(frozen=True)
class _Model:
    recipe: Recipe
    policy: Policy
    scorers: Mapping[str, Reward]


class Painter:
    """Draws with runs, with LoRAs and with the untrained model, and keeps the models used last.

    One image at a time is drawn, whoever asks.
    """

    def __init__(self, device: str | None = None) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._examples: Sequence[Task] = ()
        self._models: dict[tuple[Path | None, Path | None], _Model] = {}

    def examples(self) -> Sequence[Task]:
        """Tasks to begin with, of different subjects."""
        from likewise.builders.benchmarks import load_benchmark
        from likewise.config.evaluation_settings import STICKER_BENCH

        if not self._examples:
            self._examples = load_benchmark(STICKER_BENCH, EXAMPLES)
        return self._examples

    def draw(
        self,
        run: Path | None,
        task: Task,
        seed: int,
        strength: float,
        step: Callable[[int, int], None],
        second: Path | None = None,
        share: float = 0.0,
    ) -> tuple[Image.Image, dict[str, float]]:
        """The image and its known scores by name.

        Args:
            run: Run directory, whose newest checkpoint counts, or the folder of a LoRA; None: the
                recipe `stickers` before training.
            task: Reference and prompt; a task of sticker bench is scored by its held-out
                evaluators too, which need to know what was asked for.
            seed: The same seed starts from the same noise, whatever draws.
            strength: Factor of what adapters change: 0 is the untrained model, 1 as trained; of
                LoRAs only.
            step: Called with steps done and steps in all; what it raises ends the drawing.
            second: Another run or LoRA: weights are interpolated between the two.
            share: Of the second in it, 0 to 1.

        Raises:
            ValueError, OSError: a run has no checkpoint, or something does not fit.
        """
        from likewise.builders.datasets import fit_reference
        from likewise.builders.policies import build_sampler, set_strength
        from likewise.rollout.scoring import to_pil
        from likewise.rollout.trajectories import draw_images
        from likewise.seeding import derive_seed

        with self._lock:
            model = self._model(run, second)
            set_strength(model.policy, strength * (1 - share), strength * share)
            sampler = build_sampler(model.recipe, model.policy)
            step(0, sampler.num_steps)
            policy: Any = _Counting(model.policy, sampler.num_steps, step)
            fitted = replace(task, reference=fit_reference(task.reference, model.recipe.policy))
            drawn = draw_images(
                policy, sampler, [fitted], 1, lambda _: derive_seed("playground", seed)
            )
            (image,) = to_pil(drawn)
            return image, _scores(model.scorers, image, task)

    def _model(self, run: Path | None, second: Path | None) -> _Model:
        key = run, second
        if key not in self._models:
            self._make_room()
            self._models[key] = _loaded(run, second, self.device)
        self._models[key] = self._models.pop(key)  # the newest is last
        return self._models[key]

    def _make_room(self) -> None:
        """Forget the models that were used least recently."""
        while len(self._models) >= HELD and sum(map(_size, self._models.values())) > SMALL:
            self._models.pop(next(iter(self._models)))


def _size(model: _Model) -> int:
    """Bytes of its generator; a custom one counts as large."""
    from likewise.builders.policies import model_bytes

    return model_bytes(model.policy) or SMALL


class _Counting:
    """A policy that says how many steps it has done."""

    def __init__(self, policy: Policy, steps: int, step: Callable[[int, int], None]) -> None:
        self.policy, self.steps, self.step, self.done = policy, steps, step, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def velocity(self, *arguments: Any, **named: Any) -> Any:
        found = self.policy.velocity(*arguments, **named)
        self.done += 1
        self.step(min(self.done, self.steps), self.steps)
        return found


def _loaded(run: Path | None, second: Path | None, device: str | None) -> _Model:
    from likewise.api.generation import find_adapter
    from likewise.builders.policies import add_second, build_policy
    from likewise.builders.rewards import build_evaluators, build_rewards
    from likewise.config.data import Stickers
    from likewise.devices import find_device
    from likewise.rollout.scoring import beside_evaluators

    sections = ("policy", "rewards", "evaluators")
    recipe, folder = find_adapter(run, None, sections=sections)
    chosen = find_device(device)
    policy = build_policy(recipe, chosen, trainable=folder is None)
    if folder is not None:
        policy.load_adapter(folder)
    if second is not None:
        other, beside = find_adapter(second, None, sections=sections)
        if beside is None or folder is None or other.policy != recipe.policy:
            raise ValueError(f"{run} and {second} do not train the same model")
        add_second(policy, beside)
    stickers = isinstance(recipe.data, Stickers)
    scorers = beside_evaluators(
        build_rewards(recipe, chosen), build_evaluators(recipe, chosen, stickers)
    )
    return _Model(recipe, policy, scorers)


def _scores(scorers: Mapping[str, Reward], image: Image.Image, task: Task) -> dict[str, float]:
    """What each scorer says; one that fails, or has nothing to say, is left out."""
    found = {}
    for name, scorer in scorers.items():
        if name.startswith("evaluator/") and not task.constraints:
            continue  # they compare with what a task of the world asks for
        try:
            values, valid = scorer.score([image], [task])
        except Exception:  # a service that is away must not cost the image
            continue
        if bool(valid[0]):
            found[name] = float(values[0])
    return found
