"""How much each reward counts at each step: TDW and its rivals (docs/method.md §2).

Prompt weights w_p are float32 [T], one per *true step index* t of the sampling schedule (t = 0 is
the first step from noise). :func:`per_reward` turns them into the [K, T] that `credit.advantages`
takes, with w_i = 1 − w_p for identity. `TIME_WEIGHTS` names all of them by the `kind` of the
recipe's section `credit.time_weights`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["prompt", "identity"]

# The paper's break points, at its T = 25; for other T they scale with t/T.
PAPER_STEPS = 25
HAND_OVER_START, CENTRE, FINAL_START = 6, 10, 22
STEEPNESS = 0.8  # per step at T = 25


def tdw(num_steps: int, high: float = 0.7, low: float = 0.3, final: float = 0.5) -> Tensor:
    """Time-Aware Dynamic Weighting: prompt weight per step, float32 [T] (arXiv:2510.18263).

        u = 25·t/T
        u < 6:       w_p = high                                         (structure: prompt first)
        6 ≤ u < 22:  w_p = low + (high − low)·(1 − sigmoid(0.8·(u − 10)))   (hand-over)
        u ≥ 22:      w_p = final                                        (final integration)

    At T ≤ 8 no step reaches u = 22, so that the final stage has no step.

    Args:
        num_steps: T ≥ 1, of the whole schedule, not of the trained part.
        high, low, final: In [0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(num_steps, high=high, low=low, final=final)

    def weight(u: float) -> float:
        if u < HAND_OVER_START:
            return high
        if u >= FINAL_START:
            return final
        return low + (high - low) * (1 - 1 / (1 + math.exp(-STEEPNESS * (u - CENTRE))))

    return torch.tensor([weight(PAPER_STEPS * t / num_steps) for t in range(num_steps)])


def constant(num_steps: int, prompt: float = 0.5) -> Tensor:
    """The same prompt weight at every step, float32 [T]: no TDW.

    Raises:
        ValueError: T < 1, or the weight is outside [0, 1].
    """
    _check(num_steps, prompt=prompt)
    return torch.full((num_steps,), prompt)


def reversed_tdw(num_steps: int, high: float = 0.7, low: float = 0.3, final: float = 0.5) -> Tensor:
    """TDW with the sides exchanged, float32 [T]: identity first, then hand-over to the prompt.

        w_p = 1 − tdw

    Arguments and errors as :func:`tdw`.
    """
    return 1 - tdw(num_steps, high, low, final)


def measured(prompt: Sequence[float], identity: Sequence[float], power: float = 1.0) -> Tensor:
    """A data-driven TDW: prompt weight per step from measured step attributions, float32 [T].

        p = prompt/Σ prompt,   i = identity/Σ identity,   w_p(t) = p(t)^k/(p(t)^k + i(t)^k)

    A step's noise moves a reward by its share of the reward's variance; the rest of z is, at that
    step, noise of other steps. So each side gets weight where *its* z says something about the
    step, in proportion to how much. What follows from the rule:

    - Only the timing counts. Dividing by the sums keeps a side from leading everywhere because its
      shares are larger altogether, as they are where steps interact.
    - Weights sum to 1 over sides at every step, as in TDW: how strongly a step is trained is not
      touched, only by whom.
    - Where both profiles are alike, w_p is 0.5 at every step: :func:`constant`. The rule asserts
      no timing that was not measured.
    - A step that moves neither reward (a deterministic one) holds 0.5.

    Args:
        prompt, identity: Shares [T] ≥ 0 of each side, over steps of the whole schedule, in any
            unit (`evaluation.attribution` measures them).
        power: k > 0; ½ where windows are trained (docs/method.md §9), and 0 would be constant.

    Raises:
        ValueError: lengths differ, a share is negative or not finite, a side has none above 0, or
            the power is not positive.
    """
    if not power > 0:
        raise ValueError(f"power must be positive, not {power}")
    profiles = []
    for side, shares in (("prompt", prompt), ("identity", identity)):
        profile = torch.tensor(list(shares), dtype=torch.float64)
        if len(profile) != len(prompt) or not bool((profile.isfinite() & (profile >= 0)).all()):
            raise ValueError(
                f"{side} must hold one finite share ≥ 0 per step of {len(prompt)}, not {shares}"
            )
        if not bool(profile.any()):
            raise ValueError(f"{side} needs at least one share above 0")
        profiles.append((profile / profile.sum()) ** power)
    both = profiles[0] + profiles[1]
    return torch.where(both > 0, profiles[0] / both, torch.full_like(both, 0.5)).float()


def tdw_as_released(
    num_steps: int, order: Tensor, high: float = 0.7, low: float = 0.3, final: float = 0.5
) -> Tensor:
    """ABLATION, a known mistake: TDW as the paper's released code applies it.

    That code trains each sample's steps in shuffled order and looks TDW up by the loop counter n,
    not by the step that is trained:

        w_p(order[n]) = tdw(n)

    So the weight does not depend on the step; and as only the first 60 % of a shuffled order are
    trained, the final stage never occurs. Never use it but to measure what that costs.

    Args:
        num_steps: T of the whole schedule.
        order: Distinct step indices in the order in which they are trained, int [N] or, as every
            sample has its own, [B, N]; N ≤ T.
        high, low, final: As in :func:`tdw`.

    Returns:
        float32 [T] or [B, T]. Steps that are not in `order` are not trained; they hold 0.5.

    Raises:
        ValueError: a step is repeated or not in 0 … T−1, or as :func:`tdw`.
    """
    by_counter = tdw(num_steps, high, low, final)
    ascending = order.sort(-1).values
    out_of_range = bool(((order < 0) | (order >= num_steps)).any())
    if out_of_range or bool((ascending[..., 1:] == ascending[..., :-1]).any()):
        raise ValueError(f"order must hold distinct steps of 0 … {num_steps - 1}, not {order}")
    weights = torch.full((*order.shape[:-1], num_steps), 0.5)
    return weights.scatter(-1, order.long(), by_counter[: order.shape[-1]].expand(order.shape))


def per_reward(prompt_weight: Tensor, sides: Sequence[Side]) -> Tensor:
    """Weights of all rewards, [K, T] (or [K, B, T]), that sum to 1 over rewards at every step.

    Prompt rewards share w_p equally, identity rewards share 1 − w_p equally: with one of each this
    is the paper's pair, and splitting a side among several rewards leaves the balance between the
    sides as it was. This is our extension to K > 2. Where all rewards are on one side there is
    nothing to balance, and each gets 1/K.

    Args:
        prompt_weight: w_p, [T] or [B, T].
        sides: ``"prompt"`` or ``"identity"`` for each of the K rewards, in the order of z.

    Raises:
        ValueError: no rewards, or another side.
    """
    sides = list(sides)
    if not sides or not set(sides) <= {"prompt", "identity"}:
        raise ValueError(f"sides must be 'prompt' or 'identity', one per reward, not {sides}")
    if len(set(sides)) == 1:
        return torch.full_like(prompt_weight, 1 / len(sides)).expand(
            len(sides), *prompt_weight.shape
        )
    by_side = {"prompt": prompt_weight, "identity": 1 - prompt_weight}
    return torch.stack([by_side[side] / sides.count(side) for side in sides])


@dataclass(frozen=True)
class Steps:
    """The steps of one iteration, as far as time weights may depend on them.

    Attributes:
        count: T, of the whole schedule.
        orders: Call for the order in which the released code would train them, one for each sample,
            int64 [B, N]: :func:`tdw_as_released` alone asks.
    """

    count: int
    orders: Callable[[], Tensor]


# From the recipe's section and the steps to w_p, [T] or [B, T].
TIME_WEIGHTS: dict[str, Callable[[Any, Steps], Tensor]] = {
    "constant": lambda rule, steps: constant(steps.count, rule.prompt),
    "measured": lambda rule, steps: measured(rule.prompt, rule.identity, rule.power),
    "tdw": lambda rule, steps: tdw(steps.count, rule.high, rule.low, rule.final),
    "reversed-tdw": lambda rule, steps: reversed_tdw(steps.count, rule.high, rule.low, rule.final),
    "tdw-as-released": lambda rule, steps: tdw_as_released(
        steps.count, steps.orders(), rule.high, rule.low, rule.final
    ),
}


def _check(num_steps: int, **weights: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    for name, weight in weights.items():
        if not 0 <= weight <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {weight}")
