"""Files and folders that a recipe names, as absolute paths."""

from __future__ import annotations

from pathlib import Path

from likewise import assets
from likewise.config.recipe import Recipe
from likewise.config.section import Section

# Fields that always name a path; those of models may name a shipped one, or one on the Hub.
PATHS = {"path", "evaluation", "cache"}
MODELS = {"model", "base", "processor", "uno_lora", "ip_adapter", "segmenter", "start"}


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Relative paths made absolute, so that the run can be resumed from another directory.

    A model's name is taken for a path where there is such a file or folder. Paths from the home
    directory (``~/photos``) stay.
    """
    sections = {name: _absolute(getattr(recipe, name)) for name in ("policy", "adapter", "data")}
    rewards = {name: _absolute(reward) for name, reward in recipe.rewards.items()}
    return recipe.model_copy(update={**sections, "rewards": rewards})


def _absolute(section: Section) -> Section:
    is_elsewhere = "url" in type(section).model_fields  # an endpoint has its own names for models
    update = {
        name: str(Path(value).absolute())
        for name in type(section).model_fields
        if isinstance(value := getattr(section, name), str)
        and not value.startswith("~")
        and (name in PATHS or (name in MODELS and not is_elsewhere and _is_there(value)))
    }
    return section.model_copy(update=update)


def _is_there(name: str) -> bool:
    """Whether there is such a file or folder; a shipped model's name stands for that model."""
    return name not in assets.names() and Path(name).exists()
