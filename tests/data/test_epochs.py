"""A finite list as an endless stream."""

from __future__ import annotations

from tiny import a_task

from likewise.data.epochs import Epochs


def test_every_epoch_shows_each_task_once_in_its_own_order() -> None:
    tasks = [a_task(f"a red duck {number}") for number in range(7)]
    stream = Epochs(tasks, seed=3)
    epochs = [[stream(7 * epoch + position).id for position in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(task.id for task in tasks) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [stream(index).id for index in (9, 2)] == [epochs[1][2], epochs[0][2]]
    assert len({Epochs(tasks, seed)(0).id for seed in range(9)}) > 1
