"""A study: arms that differ in credit (or as it says), trained over paired seeds, evaluated alike.

A study file holds what all arms share as overrides, and for each arm a recipe. This module does not
import torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from likewise.config import problems
from likewise.config.comparing import differences, is_under, leaves
from likewise.config.evaluation_settings import STICKERS, EvaluationSettings
from likewise.config.loading import load_recipe
from likewise.config.problems import RecipeError
from likewise.config.recipe import STICKER_EVALUATORS, Recipe
from likewise.config.section import Section
from likewise.config.yaml_files import SUFFIXES, Shelf
from likewise.config.yaml_text import dump

STUDIES = Shelf(
    "study",
    "studies",
    Path(__file__).parent / "studies",
    "'name', 'seeds', 'arms' and 'baseline'",
    "name: my-study",
)
NAME = r"^\w[\w.-]*$"  # of what becomes a folder
AIMS = ("evaluator/identity", "evaluator/prompt")  # where a study names none
OWN = ("name", "description")  # of an arm


def _as_list(given: Any) -> Any:
    """A mapping of dotted keys, or of sections, as overrides; JSON is YAML."""
    if not isinstance(given, Mapping):
        return given
    return [f"{key}={json.dumps(value)}" for key, value in given.items()]


Overrides = Annotated[list[str], BeforeValidator(_as_list)]


class Arm(Section):
    """One way to give credit."""

    recipe: str = Field(description="a shipped recipe, or a .yaml file, as seen from the study's")
    overrides: Overrides = Field([], description="of this arm, after those of the study")
    label: str = Field("", description="name in tables and plots; default: the arm's name")


class StudyEvaluation(EvaluationSettings):
    """How every run, and the model before training, is evaluated; as in `likewise evaluate`."""

    protocol: Literal["dreambooth", "uno", "single-ref"] = "single-ref"
    tasks: PositiveInt = Field(300, description="number of the benchmark's tasks")
    seed: int = Field(0, ge=0, description="seed of the initial noise")
    aims: tuple[str, str] | None = Field(
        None,
        description="two columns of scores, the axes of the Pareto front; null: the held-out "
        "evaluators called identity and prompt",
    )

    @property
    def axes(self) -> tuple[str, str]:
        """The aims."""
        return self.aims or AIMS


class Study(Section):
    """Arms × seeds."""

    name: str = Field(pattern=NAME, description="names the study's folder")
    description: str = ""
    overrides: Overrides = Field([], description="of all arms: key=value, or a mapping")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="each arm trains once with each, so that arms are paired"
    )
    arms: dict[str, Arm] = Field(min_length=1)
    baseline: str = Field(description="the arm that all others are compared with")
    contrasts: list[tuple[str, str]] = Field(
        [],
        description="further pairs of arms to compare, as in [[nft, nft-naive]]: the first minus "
        "the second",
    )
    vary: list[str] = Field(
        ["credit"],
        min_length=1,
        description="sections and fields in which arms may differ, as in [objective, "
        "optimizer.learning_rate]; everything else is equal",
    )
    evaluation: StudyEvaluation = Field(default_factory=StudyEvaluation)
    workers: PositiveInt | Literal["auto"] = Field(
        "auto", description="units at a time; auto: one per GPU, or one per CPU core"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Study:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ from each other, not {self.seeds}")
        for name in self.arms:
            if not re.match(NAME, name):
                raise ValueError(f"the arm {name!r} names a folder: use letters, digits, . - and _")
        if self.baseline not in self.arms:
            hint = problems.nearest(self.baseline, self.arms)
            raise ValueError(f"baseline is {self.baseline!r}, which is not an arm; {hint}")
        for name in (name for pair in self.contrasts for name in pair):
            if name not in self.arms:
                hint = problems.nearest(name, self.arms)
                raise ValueError(f"contrasts name {name!r}, which is not an arm; {hint}")
        if any(one == other for one, other in self.contrasts):
            raise ValueError("contrasts are of two different arms")
        return self


def load_study(name_or_path: str | Path) -> Study:
    """A shipped study or one from a YAML file, checked with all recipes of its arms.

    Arms' recipe files, which a study names as seen from itself, are named from here in the result.

    Raises:
        RecipeError: there is no such study, it is not valid, an arm's recipe is not, or an arm
            differs from the baseline in more than `vary` says. A line per problem, with its field.
    """
    file = STUDIES.find(name_or_path, Path())
    layer = STUDIES.read(file)
    try:
        study = Study.model_validate(layer.content)
    except ValidationError as error:
        raise RecipeError(problems.describe(error, Study, lambda _: layer.label)) from error
    study = _moved(study, lambda recipe: str(file.parent / recipe))
    _check_arms(study, layer.label)
    return study


def shipped_studies() -> dict[str, str]:
    """Name → description of every study in the package, sorted by name."""
    return STUDIES.descriptions()


def study_yaml(study: Study, folder: Path) -> str:
    """The study in full, for a file in `folder`, from where arms' recipe files are named."""
    return dump(_moved(study, lambda recipe: os.path.relpath(recipe, folder)).model_dump())


def unit_overrides(study: Study, arm: str, seed: int) -> list[str]:
    """What makes the arm's recipe that of one of its runs."""
    both = [f"seed={seed}", f"data.seed={seed}"]
    return [*study.overrides, *study.arms[arm].overrides, *both]


def unit_recipe(study: Study, arm: str, seed: int) -> Recipe:
    """The recipe of one run; errors as `load_recipe`."""
    return load_recipe(study.arms[arm].recipe, unit_overrides(study, arm, seed))


def _moved(study: Study, rename: Callable[[str], str]) -> Study:
    """The study with its arms' recipe files renamed, and shipped recipes as they are."""
    arms = {
        name: arm.model_copy(update={"recipe": rename(arm.recipe)})
        if Path(arm.recipe).suffix in SUFFIXES
        else arm
        for name, arm in study.arms.items()
    }
    return study.model_copy(update={"arms": arms})


def _check_arms(study: Study, label: str) -> None:
    """What an arm changes must be what the study is about, else its gain could come from elsewhere.

    The usual one, credit, changes neither samples nor updates.

    Raises:
        RecipeError: naming arm and fields.
    """
    recipes, found = {}, []
    for name in study.arms:
        try:
            recipes[name] = unit_recipe(study, name, study.seeds[0])
        except RecipeError as error:
            found += [f"{label}: arms.{name}: {line}" for line in str(error).splitlines()]
    if study.baseline in recipes:
        base = recipes[study.baseline]
        found += [f"{label}: {problem}" for problem in _aim_problems(study.evaluation, base)]
        for name, recipe in recipes.items():
            weights = [f"rewards.{reward}.weight" for reward in recipe.rewards]
            found += [
                f"{label}: arms.{name}: {difference} as in {study.baseline}, the baseline: arms "
                f"may differ in {' and '.join(study.vary)} alone (vary)"
                for difference in differences(recipe, base, [*OWN, *weights, *study.vary])
            ]
        found += [f"{label}: {problem}" for problem in _vary_problems(study, recipes.values())]
    if found:
        raise RecipeError("\n".join(found))


def _vary_problems(study: Study, recipes: Collection[Recipe]) -> list[str]:
    """Names in `vary` that are of nothing in any recipe."""
    known = {name for recipe in recipes for name in leaves(recipe)}
    sections = {name.rpartition(".")[0] for name in known} - {""}
    return [
        f"vary: there is no {name!r} in a recipe; {problems.nearest(name, [*sections, *known])}"
        for name in study.vary
        if not any(is_under(one, [name]) for one in known)
    ]


def _aim_problems(evaluation: StudyEvaluation, recipe: Recipe) -> list[str]:
    """What is wrong with aims that the study names, as far as can be told before anything runs."""
    if evaluation.aims is None:
        return []
    evaluators = tuple(recipe.evaluators or ())
    if recipe.evaluators is None and evaluation.benchmark in STICKERS:
        evaluators = STICKER_EVALUATORS
    known = {"evaluator": evaluators, "reward": tuple(recipe.rewards)}
    found = []
    if len(set(evaluation.aims)) < len(evaluation.aims):
        found.append("evaluation.aims: the two must differ")
    for aim in evaluation.aims:
        kind, _, name = aim.partition("/")
        if kind in known and name not in known[kind]:
            hint = problems.nearest(aim, [f"{kind}/{one}" for one in known[kind]])
            found.append(f"evaluation.aims: nothing measures {aim!r}; {hint}")
    return found
