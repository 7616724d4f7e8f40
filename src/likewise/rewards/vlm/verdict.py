"""The one form of answer that counts. Anything else is not one, whatever images or prompts say."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

HIGHEST = 4
Score = Annotated[int, Field(ge=0, le=HIGHEST)]
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class Verdict(BaseModel):
    """Two scores from 0 to 4 with reasons, as in DreamBench++ (Peng et al., arXiv:2406.16855).

    Reasons come first: what a model has written is what its score can follow from.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    concept_reason: str
    concept_preservation: Score
    prompt_reason: str
    prompt_following: Score


def parse_verdict(text: str) -> Verdict:
    """A verdict from JSON, bare or in one Markdown fence, as models without JSON modes write it.

    JSON amid prose is refused: it could be a quotation from an image.

    Raises:
        ValueError: `text` is anything else, down to a score that is 3.0 or "3" instead of 3. The
            message quotes nothing of it.
    """
    fenced = _FENCED.fullmatch(text)
    try:
        return Verdict.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        fields = {".".join(map(str, problem["loc"])) or "JSON" for problem in error.errors()}
        known = sorted(field for field in fields if field in {"JSON", *Verdict.model_fields})
        raise ValueError(f"no verdict: {', '.join(known) or 'unknown keys'}") from None


def _property(annotation: Any) -> dict[str, Any]:
    # Structured outputs of some servers know enumerations, but no ranges.
    if annotation is str:
        return {"type": "string"}
    return {"type": "integer", "enum": list(range(HIGHEST + 1))}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: _property(f.annotation) for name, f in Verdict.model_fields.items()},
    "required": list(Verdict.model_fields),
    "additionalProperties": False,
}
