"""Votes as something to learn from: preference pairs, and a linear preference as a reward."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.people.ballots import judge_raters, read_ballots
from likewise.people.files import PeopleStudy, Shown
from likewise.people.metric_agreement import Judged, judged_pairs, metric_names
from likewise.people.preference import Preference, fit_preference
from likewise.records.atomic import write_atomically

PAIRS, FITTED, MODULE = "preferences.jsonl", "preference.json", "preference.py"
REWARD = "reward/"  # held-out evaluators are not rewards
FUNCTION = "linear_preference"  # of likewise.api.people
SOURCE = f'''"""What people preferred in a study, as a reward: `target: preference:score`.

It weighs the rewards named in preference.json, and knows nothing else of what people see.
"""

from pathlib import Path

from likewise.api.people import {FUNCTION}

score = {FUNCTION}(Path(__file__).with_name("preference.json"))
'''


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        pairs: Preference pairs.
        divided: Pairs that are left out because votes are divided evenly.
        preference: What was fitted; None where it could not be.
        reason: Why not; empty if it was.
    """

    pairs: int
    divided: int
    preference: Preference | None
    reason: str


def export_preferences(study: PeopleStudy, question: str, out: Path) -> Exported:
    """Write preference pairs and, if images have scores of rewards, a fitted preference.

    Raises:
        ValueError: the study has no such question.
    """
    names = [one.name for one in study.settings.questions]
    if question not in names:
        raise ValueError(f"the study asks {', '.join(names)}: no question {question!r}")
    ballots, _ = read_ballots(study)
    raters = judge_raters(ballots, study.pairs, study.settings.least_checks)
    counted = {rater.code for rater in raters if rater.counted}
    used = [one for one in ballots if one.question == question and one.rater in counted]
    judged = judged_pairs(used, study.pairs)
    out.mkdir(parents=True, exist_ok=True)
    decided = [one for one in judged if one.net]
    rows = [json.dumps(_row(study, one, question, out), ensure_ascii=False) for one in decided]
    write_atomically(out / PAIRS, "".join(row + "\n" for row in rows))
    fitted, reason = _fitted(study, judged)
    if fitted:
        content = _content(study, question, fitted)
        write_atomically(out / FITTED, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        write_atomically(out / MODULE, SOURCE)
    return Exported(len(decided), len(judged) - len(decided), fitted, reason)


def _row(study: PeopleStudy, one: Judged, question: str, out: Path) -> dict[str, Any]:
    pair = one.pair
    chosen, rejected = (pair.first, pair.second) if one.net > 0 else (pair.second, pair.first)

    def path(name: str) -> str:
        return Path(os.path.relpath(study.image(name), out)).as_posix()

    def described(image: Shown) -> dict[str, Any]:
        return {"image": path(image.image), "system": image.system, "scores": dict(image.scores)}

    return {
        "task": pair.task,
        "subject": pair.subject,
        "prompt": pair.prompt,
        "reference": path(pair.reference),
        "question": question,
        "chosen": described(chosen),
        "rejected": described(rejected),
        "votes": one.votes,
        "margin": abs(one.net),
    }


def _fitted(study: PeopleStudy, judged: list[Judged]) -> tuple[Preference | None, str]:
    known = set(study.settings.rewards)
    names = [
        name for name in metric_names(study.pairs)
        if name.startswith(REWARD) and name.removeprefix(REWARD) in known
    ]  # fmt: skip
    if not names:
        return None, (
            "the study has no scores of a run's rewards: make it of systems that `likewise "
            "evaluate` has scored, at least one of them a run"
        )
    try:
        return fit_preference(judged, names), ""
    except ValueError as error:
        return None, str(error)


def _content(study: PeopleStudy, question: str, fitted: Preference) -> dict[str, Any]:
    weights = {name.removeprefix(REWARD): weight for name, weight in fitted.weights.items()}
    return {
        "study": study.settings.name,
        "question": question,
        "weights": weights,
        "rewards": {name: dict(study.settings.rewards[name]) for name in weights},
        "votes": fitted.votes,
        "pairs": fitted.pairs,
        "agreement_on_unseen_subjects": fitted.agreement,
        "best_single_score": fitted.best_single,
    }
