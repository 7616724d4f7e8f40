"""Samples are shared out without loss, whatever the processes, updates and micro-batches."""

from __future__ import annotations

import itertools

import pytest

from likewise.config import load_recipe
from likewise.config.learning import Optimizer
from likewise.config.rollout import Rollout
from likewise.rollout.layout import Indices, micro_batches, own_tasks

Shares = list[list[list[Indices]]]  # [process][update] → micro-batches


def all_batches(
    tasks: int, group: int, processes: int, size: int, updates: int = 1, split: str = "tasks"
) -> Shares:
    rollout = Rollout(tasks=tasks, group_size=group, micro_batch=size)
    optimizer = Optimizer.model_validate({"updates_per_iteration": updates, "split": split})
    return [micro_batches(rollout, optimizer, processes, p) for p in range(processes)]


@pytest.mark.parametrize("split", ["tasks", "samples"])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_every_sample_is_drawn_once_in_its_own_update(updates: int, split: str) -> None:
    for part, other, processes, size in itertools.product(
        (1, 2, 3, 5), (2, 3, 4), (1, 2, 5), (1, 4, 99)
    ):
        tasks, group = (part * updates, other) if split == "tasks" else (other, 2 * part * updates)
        shares = all_batches(tasks, group, processes, size, updates, split)
        for update in range(updates):
            seen = [index for share in shares for batch in share[update] for index in batch]
            numbered = [divmod(index, group) for index in range(tasks * group)]
            belongs = [
                (task // part if split == "tasks" else number // (2 * part)) == update
                for task, number in numbered
            ]
            assert seen == list(itertools.compress(range(tasks * group), belongs))
        for share in shares:
            assert len(share) == updates
            for batches in share:
                assert all(len(batch) == size for batch in batches[:-1])
                assert all(0 < len(batch) <= size for batch in batches[-1:])


def test_shares_differ_by_one_sample_at_most() -> None:
    for tasks, group, processes in itertools.product(range(1, 8), range(2, 6), range(1, 9)):
        counts = [sum(map(len, share[0])) for share in all_batches(tasks, group, processes, 4)]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == tasks * group


def test_by_hand() -> None:
    one, (_, other) = all_batches(4, 3, 1, 4, 2), all_batches(4, 3, 2, 4, 2)
    assert one == [[[(0, 1, 2, 3), (4, 5)], [(6, 7, 8, 9), (10, 11)]]]
    assert other == [[(3, 4, 5)], [(9, 10, 11)]]
    assert all_batches(1, 2, 3, 4)[0] == [[]]  # more processes than samples


def test_samples_of_every_group_by_hand() -> None:
    """Three updates of two tasks with 6 samples each, 0–5 and 6–11: two of each per update."""
    (one,) = all_batches(2, 6, 1, 3, 3, "samples")
    assert one == [[(0, 1, 6), (7,)], [(2, 3, 8), (9,)], [(4, 5, 10), (11,)]]
    first, second = all_batches(2, 6, 2, 3, 3, "samples")  # a group for each process
    assert first == [[(0, 1)], [(2, 3)], [(4, 5)]]
    assert second == [[(6, 7)], [(8, 9)], [(10, 11)]]


def test_the_paper_makes_three_updates_of_32_samples() -> None:
    """12 samples per process and iteration, of one group; gradient accumulation over 4 of them."""
    recipe = load_recipe("paper")
    for process in range(8):
        found = micro_batches(recipe.rollout, recipe.optimizer, 8, process)
        assert found == [[tuple(range(12 * process + n, 12 * process + n + 4))] for n in (0, 4, 8)]
    alone = micro_batches(recipe.rollout, recipe.optimizer, 1, 0)
    assert [sum(map(len, update)) for update in alone] == [32, 32, 32]


@pytest.mark.parametrize("split", ["tasks", "samples"])
def test_one_process_holds_the_samples_of_all(split: str) -> None:
    (alone,) = all_batches(4, 6, 1, 3, 2, split)
    shares = all_batches(4, 6, 4, 3, 2, split)
    for update in range(2):
        together = [batch for share in shares for batch in share[update]]
        assert together == alone[update]  # a share of 3 samples is one micro-batch of 3


def test_own_tasks_are_those_of_own_samples() -> None:
    """20 samples over 3 processes are 6, 7 and 7: groups of 4 are split."""
    few, many = Rollout(tasks=1, group_size=2), Rollout(tasks=5, group_size=4)
    shares = [own_tasks(many, Optimizer(), 3, process) for process in range(3)]
    assert shares == [(0, 1), (1, 2, 3), (3, 4)]
    assert own_tasks(few, Optimizer(), 4, 0) == ()
