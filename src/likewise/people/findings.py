"""What a study found, as plain numbers: content of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from likewise.analysis.intervals import Estimate
from likewise.analysis.paired_comparisons import (
    Comparisons,
    sign_test,
    strength_intervals,
    wilson,
    win_rate,
)
from likewise.analysis.rater_agreement import preference_alpha
from likewise.analysis.sample_size import LIKENESS, POWER, advise
from likewise.people.ballots import Ballot, judge_raters, read_ballots
from likewise.people.files import Pair, PeopleStudy
from likewise.people.metric_agreement import Judged, agreement, judged_pairs, metric_names

TO_SEE = (0.55, 0.6, 0.7)  # shares that the advice is about
Json = Mapping[str, Any]


def summarise(study: PeopleStudy) -> dict[str, Any]:
    """All numbers of a study, from its files as they are now; None where nothing is known."""
    ballots, void = read_ballots(study)
    raters = judge_raters(ballots, study.pairs, study.settings.least_checks)
    counted = {rater.code for rater in raters if rater.counted}
    real = [one for one in ballots if study.pairs[one.pair].check is None]
    used = [one for one in real if one.rater in counted]
    pairs = sum(pair.check is None for pair in study.pairs)
    questions = study.settings.questions
    return {
        "study": study.settings.name,
        "benchmark": study.settings.benchmark,
        "systems": list(study.settings.systems),
        "questions": {one.name: one.text for one in questions},
        "pairs": pairs,
        "raters_per_pair": study.settings.raters_per_pair,
        "votes": {
            "used": len(used),
            "of_raters_left_out": len(real) - len(used),
            "wanted": pairs * study.settings.raters_per_pair * len(questions),
            "undone_or_moved": void,
        },
        "least_checks": study.settings.least_checks,
        "raters": [asdict(rater) for rater in raters],
        "results": {
            one.name: _question(study, [b for b in used if b.question == one.name],
                                [b for b in real if b.question == one.name])
            for one in questions
        },
    }  # fmt: skip


def _question(
    study: PeopleStudy, used: Sequence[Ballot], everyone: Sequence[Ballot]
) -> dict[str, Any]:
    systems, pairs = study.settings.systems, study.pairs
    judged = judged_pairs(used, pairs)
    alpha = _alpha(used)
    return {
        "win_rates": [
            _win_rate(used, everyone, pairs, one, two) for one, two in combinations(systems, 2)
        ],
        "strengths": _strengths(used, pairs, systems),
        "alpha": alpha,
        "metrics": {name: _metric(judged, name) for name in metric_names(pairs)},
        "advice": _advice(study, alpha),
    }


def comparisons(
    ballots: Sequence[Ballot], pairs: Sequence[Pair], systems: Sequence[str]
) -> Comparisons:
    """Votes as numbers; systems in the order given."""
    number_of = {name: number for number, name in enumerate(systems)}
    tasks = {task: n for n, task in enumerate(sorted({pair.task for pair in pairs}))}
    raters = {code: n for n, code in enumerate(sorted({one.rater for one in ballots}))}
    shown = [pairs[one.pair] for one in ballots]
    return Comparisons(
        first=np.array([number_of[pair.first.system] for pair in shown], dtype=int),
        second=np.array([number_of[pair.second.system] for pair in shown], dtype=int),
        outcome=np.array([one.outcome for one in ballots], dtype=float),
        raters=np.array([raters[one.rater] for one in ballots], dtype=int),
        tasks=np.array([tasks[pair.task] for pair in shown], dtype=int),
        systems=len(systems),
    )


def _oriented(ballots: Sequence[Ballot], pairs: Sequence[Pair], one: str, two: str) -> Comparisons:
    """Votes between two systems, with `one` first in all."""
    between = [b for b in ballots if {pairs[b.pair].first.system, pairs[b.pair].second.system}
               == {one, two}]  # fmt: skip
    found = comparisons(between, pairs, [one, two])
    turned = np.where(found.first == 0, found.outcome, 1 - found.outcome)
    zeros = np.zeros_like(found.first)
    return Comparisons(zeros, zeros + 1, turned, found.raters, found.tasks, 2)


def _win_rate(
    used: Sequence[Ballot], everyone: Sequence[Ballot], pairs: Sequence[Pair], one: str, two: str
) -> dict[str, Any]:
    """How often `one` beat `two`, with what is known of it."""
    votes, all_votes = _oriented(used, pairs, one, two), _oriented(everyone, pairs, one, two)
    outcome = votes.outcome
    plain, drawn = wilson(outcome.sum(), len(outcome)), win_rate(votes)
    return {
        "first": one,
        "second": two,
        "wins": int((outcome == 1).sum()),
        "losses": int((outcome == 0).sum()),
        "ties": int((outcome == 0.5).sum()),
        "rate": plain.mean,
        "wilson": [plain.low, plain.high],
        "bootstrap": [drawn.low, drawn.high],
        "p_tasks": sign_test(_net(outcome, votes.tasks)),
        "p_raters": sign_test(_net(outcome, votes.raters)),
        "rate_of_everyone": float(all_votes.outcome.mean()) if len(all_votes.outcome) else None,
    }


def _net(outcome: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Wins minus losses of each unit."""
    return np.bincount(units, weights=2 * outcome - 1) if len(units) else np.zeros(0)


def _strengths(
    used: Sequence[Ballot], pairs: Sequence[Pair], systems: Sequence[str]
) -> list[dict[str, Any]]:
    try:
        found = strength_intervals(comparisons(used, pairs, systems))
    except ValueError:  # too few votes to connect all systems
        found = [Estimate(None, None, None, 0)] * len(systems)
    return [{"system": name, **asdict(one)} for name, one in zip(systems, found, strict=True)]


def _alpha(used: Sequence[Ballot]) -> float | None:
    raters = {code: n for n, code in enumerate(sorted({one.rater for one in used}))}
    pairs = {pair: n for n, pair in enumerate(sorted({one.pair for one in used}))}
    table = np.full((len(raters), len(pairs)), np.nan)
    for one in used:
        table[raters[one.rater], pairs[one.pair]] = one.outcome
    return preference_alpha(table) if used else None


def _metric(judged: Sequence[Judged], metric: str) -> dict[str, Any]:
    """Agreement over all pairs, by category and by complexity."""
    found: dict[str, Any] = {"all": asdict(agreement(judged, metric))}
    for label in ("category", "complexity"):
        groups: dict[str, list[Judged]] = {}
        for one in judged:
            groups.setdefault(str(getattr(one.pair, label)), []).append(one)
        found[label] = {
            name: asdict(agreement(group, metric)) for name, group in sorted(groups.items())
        }
    return found


def _advice(study: PeopleStudy, alpha: float | None) -> list[dict[str, Any]]:
    """Pairs that a next study needs; votes on a pair as alike as in this one."""
    likeness = LIKENESS if alpha is None else min(1.0, max(0.0, alpha))
    raters = study.settings.raters_per_pair
    return [asdict(advise(share, raters, POWER, likeness)) for share in TO_SEE]
