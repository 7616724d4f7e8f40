"""Names, numbers and findings in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
PLAIN = {
    "evaluator/identity": "same subject (evaluator)",
    "evaluator/prompt": "prompt followed (evaluator)",
    "background": "background kept",
}
ENDS = {
    "conditioning": "to the reference",
    "held-out": "to held-out photos",
    "photos": "to all photos",
    "copy-index": "copy index",
    "diversity": "diversity",
}


def plain(metric: str) -> str:
    """``evaluator/identity`` → "same subject (evaluator)"; what is unknown stays as it is."""
    if metric in PLAIN:
        return PLAIN[metric]
    first, _, end = metric.partition("/")
    if first == "reward":
        return f"{end} reward"
    if first == "evaluator":
        return f"{end} (evaluator)"
    if end in ENDS:
        return f"{first} {ENDS[end]}"
    return metric


def reward_name(name: str, credited: bool) -> str:
    """What a reward of a recipe is called: a diagnostic is none."""
    return plain(f"reward/{name}") if credited else f"{name} (diagnostic)"


def number(value: float | None, form: str = ".3f") -> str:
    return NONE if value is None else f"{value:{form}}".replace("-", "−")


def interval(bounds: Sequence[float | None], form: str = ".3f") -> str:
    """ "0.1 … 0.2"; a dash where unknown."""
    low, high = bounds
    return NONE if low is None or high is None else f"{number(low, form)} … {number(high, form)}"


def p_value(p: float) -> str:
    """ "p = 0.031", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def verdict(versus: Mapping[str, Any]) -> str:
    """What a paired difference shows: "better" or "worse" only where both intervals agree.

    An interval that is unknown, as over a single seed, counts as one that holds 0.
    """
    subjects, seeds = _sign(versus["over_subjects"]), _sign(versus["over_seeds"])
    if subjects and subjects == seeds:
        return "better" if subjects > 0 else "worse"
    if not subjects and not seeds:
        return "no difference shown"
    return "not settled"


def finding(candidate: str, baseline: str, results: Mapping[str, Any], arm: str) -> str:
    """One sentence: on which aims an arm beats the baseline, as measured."""
    versus = results["arms"][arm]["versus"]
    said = {aim: verdict(versus[aim]) for aim in results["aims"] if aim in versus}
    by = {
        word: " and ".join(f"“{plain(aim)}”" for aim, one in said.items() if one == word)
        for word in dict.fromkeys(said.values())
    }
    phrases = {
        "better": "better on {}",
        "worse": "worse on {}",
        "no difference shown": "no difference shown on {}",
        "not settled": "not settled on {}, where intervals over subjects and over seeds disagree",
    }
    parts = [phrases[word].format(by[word]) for word in phrases if word in by]
    words = "; ".join(parts) or "not compared by any evaluator yet"
    return f"{candidate} against {baseline}: {words}."


def better_on_both(baseline: str, results: Mapping[str, Any]) -> str:
    """Which arms beat the baseline on every aim, as measured, in one sentence."""
    aims = results["aims"]
    found = [
        arm["label"]
        for arm in results["arms"].values()
        if all(aim in arm["versus"] and verdict(arm["versus"][aim]) == "better" for aim in aims)
    ]
    return f"Better than {baseline} on both: {', '.join(found) or 'no arm'}."


def difference(metric: str, versus: Mapping[str, Any]) -> str:
    """The numbers behind a verdict."""
    said = verdict(versus)
    reason = {
        "no difference shown": "no interval is away from 0: no difference shown",
        "not settled": "the two intervals disagree: not settled",
    }.get(said, f"both intervals are away from 0: {said}")
    return (
        f"{plain(metric)}: {number(versus['mean'], '+.4f')}. Over "
        f"{count(versus['n_subjects'], 'subject')} {interval(versus['over_subjects'], '+.4f')} "
        f"({p_value(versus['p_subjects'])}), over {count(versus['n_seeds'], 'seed')} "
        f"{interval(versus['over_seeds'], '+.4f')} ({p_value(versus['p_seeds'])}); {reason}."
    )


def _sign(bounds: Sequence[float | None]) -> int:
    """Sign of an interval; 0 where it contains 0 or is unknown."""
    low, high = bounds
    if low is None or high is None:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0
