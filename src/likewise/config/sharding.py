"""What a recipe has to be like where its denoiser is spread over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.config.recipe import Recipe


def check_sharding(recipe: Recipe) -> None:
    """Refuse what does not work in shards, or would have no effect.

    Raises:
        ValueError: there is such a setting; the message names it.
    """
    run, policy, gradients = recipe.run, recipe.policy, recipe.optimizer.gradients
    if run.sharding != "hybrid" and run.shard_size is not None:
        raise ValueError(
            f"run.shard_size has no effect with run.sharding {run.sharding}: leave it out, or use "
            "hybrid"
        )
    if run.sharding == "none":
        return
    refused = {
        "policy.quantization": policy.quantization is not None,
        "policy.compile": policy.compile,
        "policy.dtype float16": policy.dtype == "float16",
        "optimizer.gradients.kind": gradients.combines,
        "optimizer.gradients.measure_every": gradients.measure_every > 0,
    }
    for name, asked in refused.items():
        if asked:
            raise ValueError(
                f"{name} does not go with run.sharding {run.sharding}: leave one of them out"
            )


def check_waits(recipe: Recipe) -> None:
    """Processes must wait longer for each other than one of them can wait for a reward.

    Raises:
        ValueError: they would give up while an answer is still allowed to come.
    """
    scorers = {"rewards": recipe.rewards, "evaluators": recipe.evaluators or {}}
    for section, rewards in scorers.items():
        for name, reward in rewards.items():
            for field in ("total_timeout", "deadline"):
                longest = getattr(reward, field, 0)
                if 2 * longest > recipe.run.timeout:
                    raise ValueError(
                        f"run.timeout is {recipe.run.timeout} s, and {section}.{name}.{field} lets "
                        f"one process wait {longest:g} s: make it at least twice as long"
                    )
