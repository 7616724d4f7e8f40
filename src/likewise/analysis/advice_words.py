"""Advice in plain words."""

from __future__ import annotations

from likewise.analysis.advice import LINE, NAIVE, WORTH, Advice, ArmAdvice
from likewise.analysis.intervals import Estimate

WEAK = 0.1  # |correlation| that hardly matters
INTERACTION = 1.3  # sum of shares from which steps do not act apart any more


def in_words(found: Advice, num_steps: int) -> str:
    """Paragraphs: conflict, timing, time weights, SARS, what to try."""
    best = _percent(found.bound)
    parts = [
        _conflict(found),
        _timing(found, num_steps),
        *(_arm(name, arm, found) for name, arm in found.arms.items()),
        f"The best weights there are, which leave out steps that decide nothing, save {best}.",
        _sars(found),
        _choice(found),
        f"Predicted for an idealised learner (docs/method.md §9){_interaction(found)}: a study "
        "decides.",
    ]
    return "\n".join(parts)


def _conflict(found: Advice) -> str:
    r = found.correlation
    low, high = (-1.0 if r.low is None else r.low), (1.0 if r.high is None else r.high)
    if high < 0:
        said = "They conflict" + (", but hardly" if (r.mean or 0) > -WEAK else "")
    elif low > 0:
        said = "They agree" + (", but hardly" if (r.mean or 0) < WEAK else "")
    else:
        said = "Whether they conflict or agree is not settled"
    return (
        f"{said}: inside groups, the correlation of both rewards is {_number(r)}, and "
        f"{found.opposed:.0%} of the samples are better than their group in one and worse in the "
        "other."
    )


def _timing(found: Advice, num_steps: int) -> str:
    centres = found.centres
    delay = found.delay.mean or 0.0
    return (
        f"Of steps 0 to {num_steps - 1}, the prompt reward is decided around "
        f"{_number(centres['prompt'])} and the identity reward around "
        f"{_number(centres['identity'])}: identity {'later' if delay >= 0 else 'earlier'} by "
        f"{_number(found.delay)} steps. Their profiles overlap by {_number(found.overlap)} (1: "
        "decided at the same steps)."
    )


def _arm(name: str, arm: ArmAdvice, found: Advice) -> str:
    return (
        f"{name} is predicted to {_saving(arm.saved)} of naive's images, and to "
        f"{_saving(arm.saved_matched)} against the constant weight of the same mean, "
        f"{arm.matched:.2f}. The prompt gets {arm.balance:.0%} of its progress; of naive's, "
        f"{found.balance:.0%}."
    )


def _saving(found: Estimate) -> str:
    if (found.mean or 0.0) >= 0:
        return f"save {_percent(found)}"
    low, high = (None if one is None else -one for one in (found.high, found.low))
    return f"cost {_percent(Estimate(-(found.mean or 0.0), low, high, found.n))}"


def _sars(found: Advice) -> str:
    share = f"At γ = {found.gamma:g}, a straight line in both z explains {_percent(found.linear)} "
    share += "of SARS's credit"
    if (found.linear.mean or 0.0) < LINE:
        return f"{share}: it is more than a rescaled sum."
    if found.needed_gamma.mean is None:
        return f"{share}, and more than {LINE:.0%} at any γ: it is a rescaled sum."
    return (
        f"{share}: it is nearly a rescaled sum. From γ = {_number(found.needed_gamma)} on the line "
        f"explains less than {LINE:.0%}."
    )


def _interaction(found: Advice) -> str:
    """A caution where the model's first assumption does not hold."""
    sums = [f"{total:.1f} ({side})" for side, total in found.sums.items() if total > INTERACTION]
    if not sums:
        return ""
    return f" whose steps act apart, while here shares sum to {' and '.join(sums)} instead of 1"


def _choice(found: Advice) -> str:
    if found.choice == NAIVE:
        said = "Try naive, and tune the constant weight: no time weights are predicted to save "
        said += f"{WORTH:.0%}."
        return said if found.sure else f"{said} The data does not settle that: measure more tasks."
    arm = found.arms[found.choice]
    said = f"Try {found.choice}, beside naive and the constant weight {arm.matched:.2f}."
    if found.sure:
        return said
    return f"{said} The data does not settle that it saves anything: measure more tasks."


def _number(found: Estimate) -> str:
    return _with_interval(found, "{:.2f}")


def _percent(found: Estimate) -> str:
    return _with_interval(found, "{:.0%}")


def _with_interval(found: Estimate, form: str) -> str:
    if found.mean is None:
        return "unknown"
    bounds = [form.format(one) if one is not None else "?" for one in (found.low, found.high)]
    return f"{form.format(found.mean)} [{', '.join(bounds)}]"
