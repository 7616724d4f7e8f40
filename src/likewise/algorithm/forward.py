"""Learning from finished images: forward-process objectives (docs/method.md §3).

A finished latent x0 is noised to a level σ with fresh noise ε. For a flow,

    x_σ = (1 − σ)·x0 + σ·ε,   u = ε − x0,   x̂0(v) = x_σ − σ·v

and where a model predicts ε or v of a variance-preserving process, with √ᾱ = √(1 − σ²),

    x_σ = √ᾱ·x0 + σ·ε,   u = ε or √ᾱ·ε − σ·x0,   x̂0 = (x_σ − σ·ε̂)/√ᾱ or √ᾱ·x_σ − σ·v̂

so that the same formulas hold, as x̂0 is linear in what is predicted. ‖·‖² is a mean over latent
dimensions. All losses are float32 [B], one per sample, and are to be averaged.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from likewise.algorithm.transitions import precise

Prediction = Literal["flow", "epsilon", "v_prediction"]  # what a model predicts
WEIGHT_FLOOR = 1e-5  # of NFT's w


def noised(x0: Tensor, noise: Tensor, sigma: Tensor, kind: Prediction = "flow") -> Tensor:
    """x_σ, like x0.

    Args:
        x0, noise: [B, …].
        sigma: Noise level of each sample [B], in (0, 1].
        kind: What the model predicts.
    """
    level = _like(sigma, x0)
    return _signal(level, kind) * x0 + level * noise


def target(x0: Tensor, noise: Tensor, sigma: Tensor, kind: Prediction = "flow") -> Tensor:
    """What a perfect model predicts at x_σ, like x0; arguments as :func:`noised`."""
    level = _like(sigma, x0)
    if kind == "flow":
        return noise - x0
    if kind == "epsilon":
        return noise
    return _signal(level, kind) * noise - level * x0


def predicted_x0(x: Tensor, prediction: Tensor, sigma: Tensor, kind: Prediction = "flow") -> Tensor:
    """x̂0 of a prediction at x_σ, like x."""
    level = _like(sigma, x)
    if kind == "flow":
        return x - level * prediction
    signal = _signal(level, kind)
    if kind == "epsilon":
        return (x - level * prediction) / signal
    return signal * x - level * prediction


def squared_error(one: Tensor, other: Tensor) -> Tensor:
    """‖one − other‖² per sample, float32 or float64 [B]: of velocities a velocity KL (AWM)."""
    return (precise(one) - precise(other)).square().flatten(1).mean(1)


def nft_loss(
    v: Tensor,
    v_old: Tensor,
    x: Tensor,
    x0: Tensor,
    sigma: Tensor,
    advantages: Tensor,
    beta: float,
    max_advantage: float,
    kind: Prediction = "flow",
) -> Tensor:
    """DiffusionNFT's loss [B] (arXiv:2509.16117).

        v± = v_old ± β·(v − v_old),   r = ½ + ½·clip(A/A_max, −1, 1)
        loss = A_max/β · ( r·‖x̂0(v⁺) − x0‖²/w⁺ + (1 − r)·‖x̂0(v⁻) − x0‖²/w⁻ )

    with w = mean|x̂0 − x0|, at least 1e-5, without gradient. At v = v_old the gradient is that of
    A·‖x̂0(v) − x0‖²/w (for |A| ≤ A_max): 0 where A is.

    Args:
        v: Predicted by the policy that is trained, [B, …].
        v_old: By the old policy; its gradient is cut.
        x, x0: x_σ and the finished latents.
        sigma: [B].
        advantages: Of each sample at its level, [B].
    """
    v_old = v_old.detach()
    away = beta * (v - v_old)  # exactly 0 where nothing was learned: v⁺ and v⁻ are equal then
    share = 0.5 + 0.5 * (precise(advantages) / max_advantage).clamp(-1, 1)

    def weighed(prediction: Tensor) -> Tensor:
        apart = predicted_x0(x, prediction, sigma, kind) - x0
        weight = apart.detach().abs().flatten(1).mean(1).clamp_min(WEIGHT_FLOOR)
        return apart.square().flatten(1).mean(1) / weight

    both = share * weighed(v_old + away) + (1 - share) * weighed(v_old - away)
    return both * (max_advantage / beta)


def matching_log_prob(v: Tensor, u: Tensor, sigma: Tensor, power: float = 0.0) -> Tensor:
    """AWM's log-prob of an image, [B] (arXiv:2509.25050): −σ^power·‖v − u‖².

    For `objective.ratio` and `objective.clipped_loss`. At v = v_old the gradient of that loss is
    A·σ^power·∇‖v − u‖².
    """
    return -(precise(sigma) ** power) * squared_error(v, u)


def crd_loss(v: Tensor, v_old: Tensor, u: Tensor, advantages: Tensor, beta: float) -> Tensor:
    """CRD's loss [B] (arXiv:2603.14128): (β·R̂ − A)², R̂ = ‖v_old − u‖² − ‖v − u‖².

    At v = v_old the gradient is 2·β·A·∇‖v − u‖².
    """
    fell = squared_error(v_old.detach(), u) - squared_error(v, u)
    return (beta * fell - precise(advantages)).square()


def group_preference(
    errors: Tensor, reference_errors: Tensor, advantages: Tensor, beta: float
) -> Tensor:
    """How much DGPO's preference still has to learn from a group: in (0, 1) (arXiv:2510.08425).

        loss = softplus(D),   D = β/G·Σ_b A_b·(‖v_b − u_b‖² − ‖v_ref,b − u_b‖²)

    Its gradient is sigmoid(D)·β/G·Σ_b A_b·∇‖v_b − u_b‖², so that a group's samples can be computed
    apart from each other once this factor, sigmoid(D), is known.

    Args:
        errors, reference_errors: Of a group's G samples at one draw, [..., G].
        advantages: Theirs, [..., G].
    """
    weighed = precise(advantages) * (precise(errors) - precise(reference_errors))
    return torch.sigmoid(beta * weighed.mean(-1))


def norm_ratio(v: Tensor, v_reference: Tensor) -> Tensor:
    """‖v‖/‖v_ref‖ per sample, [B]: reinforcement learning inflates it (arXiv:2606.27771)."""
    norms = [precise(one).flatten(1).norm(dim=1) for one in (v, v_reference)]
    return norms[0] / norms[1].clamp_min(1e-12)


def norm_penalty(v: Tensor, v_reference: Tensor) -> Tensor:
    """max(0, ‖v‖/‖v_ref‖ − 1)² per sample, [B]; 0 while the norm has not grown."""
    return F.relu(norm_ratio(v, v_reference) - 1).square()


def _like(sigma: Tensor, x: Tensor) -> Tensor:
    """[B] → [B, 1, …, 1], of x's dtype and device."""
    return sigma.to(x).reshape(-1, *[1] * (x.ndim - 1))


def _signal(level: Tensor, kind: Prediction) -> Tensor:
    return 1 - level if kind == "flow" else (1 - level.square()).sqrt()
