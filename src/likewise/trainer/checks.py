"""What must hold before the first update, and when a run has to give up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class TrainingError(RuntimeError):
    """The run cannot go on; the message says why and what to do. Nothing written is lost."""


def check_ratio(deviation: float, tolerance: float) -> None:
    """The replay of a rollout must give the very log-probs that were stored.

    Raises:
        TrainingError: it does not, so every ratio would be off before anything was learned.
    """
    if deviation <= tolerance:
        return
    raise TrainingError(
        f"before the first update, replayed ratios differ from 1 by up to {deviation:.2g} "
        f"(allowed: objective.ratio_tolerance = {tolerance:g}). The rollout and the update compute "
        "different numbers: look for dropout or randomness in the model, or kernels that are not "
        "deterministic; on a GPU a tolerance well below objective.clip_range may do"
    )


def not_finite(iteration: int, last_good: int) -> TrainingError:
    """What to raise where an update has spoilt the weights.

    Args:
        last_good: Iteration of the newest intact checkpoint; 0: there is none.
    """
    kept = f"the last good one is of iteration {last_good}" if last_good else "there is no earlier"
    return TrainingError(
        f"iteration {iteration} made weights that are not finite; no checkpoint of it was saved "
        f"({kept}). Start anew with a lower "
        "optimizer.learning_rate, optimizer.weight_decay or optimizer.max_grad_norm: a resumed run "
        "would end here again"
    )


NO_CREDIT = "Rewards are missing or equal inside every group, or gradients are not finite."


class Patience:
    """Gives up after too many iterations in a row without progress."""

    def __init__(self, limit: int) -> None:
        self.limit, self.count = limit, 0

    def should_stop(self, progress: bool) -> bool:
        """Note whether an iteration made progress. True once the limit is reached."""
        self.count = 0 if progress else self.count + 1
        return self.count >= self.limit

    def error(self, failures: Mapping[str, str], silent: Sequence[str] = ()) -> TrainingError:
        """What to raise then.

        Args:
            failures: What rewards failed with in the last iteration.
            silent: Rewards that were missing for every image of it without having failed.
        """
        known = {name: "missing for every image" for name in silent}
        reasons = "; ".join(f"{name}: {why}" for name, why in {**known, **failures}.items())
        return TrainingError(
            f"nothing was learned in {self.count} iterations in a row (run.patience = "
            f"{self.limit}). {reasons or NO_CREDIT}"
        )
