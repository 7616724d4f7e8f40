"""What rewards say about groups of images, once all images of a group are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from likewise.protocols import AnyReward, GroupReward
from likewise.rollout.containment import contained
from likewise.rollout.scoring import Scores


def compare_groups(rewards: Mapping[str, AnyReward], scores: Scores, group_size: int) -> Scores:
    """The scores with the values of group rewards filled in.

    An image that could not be embedded is missing, and the others are compared without it; where
    fewer than two of a group are known, all are missing.

    Args:
        rewards: In the order in which they were scored.
        scores: Of all images of an iteration; each `group_size` neighbours are one group.
    """
    values, valid, failures = scores.values.clone(), scores.valid.clone(), dict(scores.failures)
    for k, (name, reward) in enumerate(rewards.items()):
        if isinstance(reward, GroupReward) and name in scores.embeddings:
            failed: dict[str, str] = {}
            with contained(name, failed):
                _compare(reward, scores.embeddings[name], group_size, values[k], valid[k])
            if failed:
                values[k], valid[k] = 0, False
                failures |= failed
    return replace(scores, values=values, valid=valid, failures=failures)


def _compare(
    reward: GroupReward, embeddings: Tensor, group_size: int, values: Tensor, valid: Tensor
) -> None:
    """Fill in one reward's values and valid [B]."""
    known = embeddings.isfinite().all(1)
    for start in range(0, len(embeddings), group_size):
        indices = start + known[start : start + group_size].nonzero().flatten()
        if len(indices) >= 2:
            found = reward.compare(embeddings[indices]).float()
            if found.shape != indices.shape:
                raise ValueError(f"compare gave {list(found.shape)} for {len(indices)} images")
            valid[indices] = found.isfinite()
            values[indices] = found.nan_to_num(0, 0, 0)
