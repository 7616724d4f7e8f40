"""What every part of a recipe has in common. This module does not import torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

LARGEST = 1e9  # of any setting; fields whose sensible values end earlier say so themselves
LARGEST_SEED = 2**63 - 1
SEEDS = ("seed", "seeds")


def usual_kind(kind: str) -> BeforeValidator:
    """For a union of sections: one that names no kind is of this one."""

    def named(section: object) -> object:
        return {"kind": kind, **section} if isinstance(section, dict) else section

    return BeforeValidator(named)


class Section(BaseModel):
    """A part of a recipe: immutable, and closed to keys that nothing reads."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a key in the wrong place
    )

    @field_validator("*")
    @classmethod
    def _is_no_giant(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers that are finite here, but not in float32 or in memory, are refused by name."""
        largest = LARGEST_SEED if info.field_name in SEEDS else LARGEST
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and abs(number) > largest:
                raise ValueError(f"should be at most {largest:g}")
        return value
