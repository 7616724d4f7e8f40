"""What decides the numbers of an evaluation, for the command, for Python and for studies alike."""

from __future__ import annotations

from pydantic import PositiveInt

from likewise.config.section import Section

STICKER_BENCH = "sticker-bench"
STICKERS = (STICKER_BENCH, "sticker-tuning")  # held-out subjects; training subjects


class EvaluationSettings(Section):
    """What decides the numbers of an evaluation.

    Attributes:
        benchmark: ``sticker-bench``, ``sticker-tuning`` (for choosing settings), or a folder in
            google/dreambooth's layout.
        protocol: Photos that images are compared with, and how to average: ``single-ref``, ``uno``
            or ``dreambooth``.
        tasks: Number of the benchmark's tasks, evenly over subjects and prompts (default: all; 150
            where stickers are drawn; where images are given, those that they are about).
        images_per_prompt: Number of images per task (default: the protocol's).
        seed: Seed of the initial noise (default: the protocol's).
        steps: Number of sampling steps (default: the recipe's, as in training).
        metrics: Metric → encoder that measures it: shipped, a folder, or on the Hub (default: see
            docs/evaluation.md).
    """

    benchmark: str = STICKER_BENCH
    protocol: str = "single-ref"
    tasks: PositiveInt | None = None
    images_per_prompt: PositiveInt | None = None
    seed: int | None = None
    steps: PositiveInt | None = None
    metrics: dict[str, str] | None = None
