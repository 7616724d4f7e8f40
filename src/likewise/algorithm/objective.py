"""What an update minimises: the clipped ratio objective, GRPO-Guard and KL (docs/method.md §3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.algorithm.transitions import Level, precise, spread
from likewise.config.rollout import TRANSITIONS

GUARDED_TRANSITIONS = [name for name, facts in TRANSITIONS.items() if facts.noise_rate]


@dataclass(frozen=True)
class Objective:
    """The loss, and how the ratios behind it were spread. All are float32 without dimensions.

    Attributes:
        loss: To be minimised; the only one that carries a gradient.
        ratio_mean: Mean ratio; 1 on average where the policy has not moved.
        ratio_deviation: Largest |ratio − 1|; 0.0 exactly before the first update.
        clip_fraction: Share of ratios outside [1 − ε, 1 + ε].
        silenced_fraction: Share of terms whose gradient the clipping removed: the ratio is outside
            on the side that its advantage pushes to. Never more than `clip_fraction`.
    """

    loss: Tensor
    ratio_mean: Tensor
    ratio_deviation: Tensor
    clip_fraction: Tensor
    silenced_fraction: Tensor

    def ratios(self) -> dict[str, Tensor]:
        """How ratios were spread, by name: means over samples."""
        return {
            "ratio": self.ratio_mean,
            "clip_fraction": self.clip_fraction,
            "silenced_fraction": self.silenced_fraction,
        }


def ratio(log_prob_new: Tensor, log_prob_old: Tensor) -> Tensor:
    """exp(log p_new − log p_old), of the arguments' shape; exactly 1 where they are equal.

    Raises:
        ValueError: shapes differ.
    """
    _check_same_shape(log_prob_new, log_prob_old)
    return (precise(log_prob_new) - precise(log_prob_old).detach()).exp()


def guarded_ratio(
    log_prob_new: Tensor,
    log_prob_old: Tensor,
    mean_new: Tensor,
    mean_old: Tensor,
    std: Level,
    transition: str,
) -> Tensor:
    """GRPO-Guard's normalised ratio [B] (arXiv:2510.22319), for :func:`clipped_loss`.

        log ratio = std·( log p_new − log p_old + mean_d(Δmean²)/(2·std²) )

    With a sample drawn as mean_old + std·ε this is mean_d(Δmean·ε): its mean no longer lies below
    0, and its spread no longer depends on the step, so one clip range fits all steps. The log-probs
    must be `gaussian_log_prob` with the same std, and that std must be a noise rate times √(−dt).

    Args:
        log_prob_new, log_prob_old: [B].
        mean_new, mean_old: Transition means [B, …]; the old one's gradient is cut.
        std: The transition's, including √(−dt): a number, [B] or [B, 1, …, 1].
        transition: ``"dance-sde"`` or ``"flow-sde"``.

    Raises:
        ValueError: any other transition. In CPS and DDIM std has no factor √(−dt), for which the
            normalisation is derived, and it is 0 at their last step. Or: shapes differ.
    """
    if transition not in GUARDED_TRANSITIONS:
        raise ValueError(
            f"GRPO-Guard is valid only for {' and '.join(GUARDED_TRANSITIONS)}, not {transition!r}"
        )
    _check_same_shape(log_prob_new, log_prob_old)
    log_ratio = precise(log_prob_new) - precise(log_prob_old).detach()
    bias = gaussian_kl(mean_new, mean_old.detach(), std)
    rate = spread(std, precise(mean_new)).to(bias.device).reshape(-1)  # [B], or [1] for a number
    return (rate * (log_ratio + bias)).exp()


def clipped_loss(
    ratio: Tensor, advantages: Tensor, clip_range: float, weight: Tensor | None = None
) -> Objective:
    """The clipped surrogate of PPO (arXiv:1707.06347) as in Flow-GRPO and the paper.

        loss  = mean( max(−A·ratio, −A·clip(ratio, 1 − ε, 1 + ε)) )

    At ratio 1 the loss is −mean(A). Samples with A = 0 (missing rewards) count in the mean, so
    that the loss of a batch is the mean of its equal parts' losses.

    Args:
        ratio: Of :func:`ratio` or :func:`guarded_ratio`, [B] or [B, T], with gradient.
        advantages: Same shape; column t belongs to the transition that is scored there.
        clip_range: ε > 0; 1e-4 (paper, Flow-GRPO, DanceGRPO), as log-probs are means.
        weight: Optional factor per term, same shape, such as :func:`inverse_dt`.

    Raises:
        ValueError: shapes differ, or ε is not positive.
    """
    _check_same_shape(ratio, advantages)
    if not clip_range > 0:
        raise ValueError(f"clip_range must be positive, not {clip_range}")
    advantages = precise(advantages).detach()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    terms = torch.maximum(-advantages * ratio, -advantages * clipped)
    if weight is not None:
        _check_same_shape(ratio, weight)
        terms = terms * weight
    seen = ratio.detach()
    above, below = seen > 1 + clip_range, seen < 1 - clip_range
    silenced = (above & (advantages > 0)) | (below & (advantages < 0))
    return Objective(
        loss=terms.mean(),
        ratio_mean=seen.mean(),
        ratio_deviation=(seen - 1).abs().max(),
        clip_fraction=(above | below).to(seen.dtype).mean(),
        silenced_fraction=silenced.to(seen.dtype).mean(),
    )


def gaussian_kl(mean: Tensor, mean_reference: Tensor, std: Level) -> Tensor:
    """KL between two Gaussian transitions of the same std, averaged over latent dimensions: [B].

        KL[b] = mean_d( (mean − mean_ref)² )/(2·std²)

    An average, like the log-prob, so that its weight does not depend on the resolution.

    Args:
        mean: [B, …], of the trained policy.
        mean_reference: Same shape, of the frozen reference; give it without gradient.
        std: The transition's std *including* √(−dt): a number, [B] or [B, 1, …, 1].

    Raises:
        ValueError: shapes differ, or `std` is not one number per sample.
    """
    _check_same_shape(mean, mean_reference)
    difference = precise(mean) - precise(mean_reference)
    std = spread(std, difference).to(difference.device)  # levels of a schedule are on the CPU
    if std.numel() not in (1, len(difference)):
        raise ValueError(f"wanted one std per sample, got {list(std.shape)}")
    return difference.square().flatten(1).mean(1) / (2 * std.reshape(-1) ** 2)


def inverse_dt(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """1/(σ − σ') = −1/dt, of the arguments' shape: loss weights that undo the length of a step.

    A change of velocity moves an SDE's mean by dt, hence a guarded log-ratio by dt and a plain one
    by √(−dt). Guarded and divided by −dt, long and short steps count alike (GRPO-Guard). Weights
    are large, about T: mind gradient clipping.
    """
    return 1 / (precise(sigma) - precise(sigma_next))


def _check_same_shape(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"shapes differ: {list(one.shape)} and {list(other.shape)}")
