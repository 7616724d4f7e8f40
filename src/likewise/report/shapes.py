"""What ``results.json`` and ``attribution.json`` must be like for a report; more may be in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Known = Annotated[float, Field(strict=True)]
Number = Known | None
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Text = Annotated[str, Field(strict=True)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Estimate(_Shape):
    mean: Number
    low: Number
    high: Number
    per_seed: list[Number] = []


class Difference(_Shape):
    mean: Known
    over_seeds: Pair
    over_subjects: Pair
    p_subjects: Known
    p_seeds: Known


class Cost(_Shape):
    seconds: dict[str, Number]
    relative: dict[str, Number]
    peak_memory_mb: Number
    relative_memory: Number


def _labels_and_estimates(cell: dict[str, Any]) -> dict[str, Any]:
    for name, value in cell.items():
        if isinstance(value, dict):
            Estimate.model_validate(value)
        elif not isinstance(value, str | int | None):
            raise ValueError(f"{name} is neither a label nor an estimate")
    return cell


Cells = list[Annotated[dict[str, Any], AfterValidator(_labels_and_estimates)]]


class Arm(_Shape):
    label: Text
    seeds: list[int]
    metrics: dict[str, Estimate]
    versus: dict[str, Difference]
    hypervolume: Estimate
    pareto: bool
    robustness: Cells = []
    by_kind: Cells = []
    overhead: Cost | None = None


class Contrast(_Shape):
    labels: Annotated[list[Text], Field(min_length=2, max_length=2)]
    versus: dict[str, Difference]


class Results(_Shape):
    aims: Annotated[list[Text], Field(min_length=2, max_length=2)]
    arms: dict[str, Arm]
    base: dict[str, Estimate]
    baseline: Text
    contrasts: list[Contrast] = []
    metrics: list[Text]
    missing: list[Text]
    trained_on: dict[str, Text] = {}
    spoilt: dict[str, Text] = {}
    commands: list[Text] = []
    environment: dict[str, Any] = {}


class Profile(_Shape):
    share: list[Number]
    low: list[Number]
    high: list[Number]


class Attribution(_Shape):
    tasks: int
    scorers: dict[str, Profile]


def misfit(content: dict[str, Any], shape: type[_Shape]) -> str:
    """What is wrong with `content` first, as "arms.ours.label: …"; empty if nothing is."""
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
