"""An exchange that fails ends in one message; other errors stay as they are."""

from __future__ import annotations

import pytest
from torch.distributed import DistBackendError

from likewise.trainer.checks import TrainingError
from likewise.trainer.lost import naming_lost_processes

GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:52865."
LATE = "[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 60000ms for recv operation"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(GLOO), "process 1 of 2 lost its connection to another one"),
        (DistBackendError("NCCL error: remote process exited"), "lost its connection"),
        (RuntimeError(LATE), "waited for another one longer than run.timeout"),
    ],
)
def test_a_lost_process_is_named(error: RuntimeError, said: str) -> None:
    with pytest.raises(TrainingError) as caught, naming_lost_processes(1, 2, "go on so"):
        raise error
    assert said in str(caught.value) and str(caught.value).endswith("; go on so")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("a size"), TrainingError(GLOO), KeyError(GLOO)])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming_lost_processes(1, 2, "go on so"):
        raise error
    assert caught.value is error


def test_one_process_loses_nobody() -> None:
    with pytest.raises(RuntimeError, match="closed by peer"), naming_lost_processes(0, 1, ""):
        raise RuntimeError(GLOO)
