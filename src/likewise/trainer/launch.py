"""One run in several processes of this machine, without another command to start it.

Where the run is part of a larger launch already (``accelerate launch``, ``torchrun``), that one's
processes are used as they are.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection, parent_process
from typing import Any

from torch import multiprocessing
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from likewise.devices import auto_threads
from likewise.trainer.checks import TrainingError
from likewise.trainer.interrupts import Interrupts

ORPHAN_GRACE = 300.0  # seconds in which a worker whose parent died may save what it learned
Errors = Any  # a multiprocessing queue, which has no public type
EXPECTED: dict[str, type[Exception]] = {
    "training": TrainingError,
    "value": ValueError,
    "os": OSError,
}


def is_launched() -> bool:
    """Whether this process is one of several that another launcher started."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def launch(count: int, worker: Callable[..., Any], *arguments: Any, remedy: str = "") -> int:
    """Call ``worker(*arguments)`` in `count` processes that know of each other.

    SIGTERM and SIGINT are passed on to them, and they end when this process does. Returns the last
    such signal, or 0.

    Args:
        remedy: What the user can do where a worker was killed, to end a message with.

    Raises:
        ValueError, OSError, TrainingError: a worker raised it; the others were ended.
        TrainingError: a worker was killed or ended by itself.
        ProcessRaisedException: a worker raised anything else.
    """
    settings = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": str(auto_threads(count)),  # else Accelerate would choose, and warn
    }
    errors: Errors = multiprocessing.get_context("spawn").SimpleQueue()
    processes: list[Any] = []

    def pass_on(_: int) -> None:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    with Interrupts(pass_on) as interrupts:
        # A terminal sends Ctrl-C to workers too, and one that still imports would die of it with a
        # traceback. They inherit a mask that holds it back; this process passes on SIGTERM.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            shared = (count, settings, errors, worker, arguments)
            context = multiprocessing.start_processes(
                _enter, shared, count, False, start_method="spawn"
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        processes += context.processes
        if interrupts.received:  # it came while they were started
            pass_on(interrupts.received)
        _join(context, errors, interrupts, remedy)
    return interrupts.received


def _join(context: Any, errors: Errors, interrupts: Interrupts, remedy: str) -> None:
    """Wait until all workers have ended; raises as :func:`launch`."""
    killed: str | None = None
    done = False
    try:
        while not done:
            for sentinel in connection.wait(list(context.sentinels)):
                context.processes[context.sentinels[sentinel]].join()  # else its end is not known
            killed = _killed(context.processes)  # before those that are stuck are killed too
            done = context.join(grace_period=60)
    except (ProcessExitedException, ProcessRaisedException) as error:
        if killed is None and not errors.empty():
            kind, message = errors.get()
            raise EXPECTED[kind](message) from None
        if interrupts.received:  # it came before a worker could handle it
            return
        if killed is None and isinstance(error, ProcessExitedException):
            killed = _ended(error, len(context.processes))
        if killed is None:
            raise
        raise TrainingError("; ".join(filter(None, [killed, remedy]))) from None


def _killed(processes: Sequence[Any]) -> str | None:
    """Which worker was killed; others lose their connection to it, and are not the cause."""
    for index, process in enumerate(processes):
        if process.exitcode == -signal.SIGKILL:
            return (
                f"process {index} of {len(processes)} was killed (SIGKILL), probably because the "
                "machine ran out of memory"
            )
    return None


def _ended(error: ProcessExitedException, count: int) -> str:
    how = f"by {error.signal_name}" if error.signal_name else f"with exit code {error.exit_code}"
    return f"process {error.error_index} of {count} was ended {how}"


def _enter(
    index: int,
    count: int,
    settings: Mapping[str, str],
    errors: Errors,
    worker: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    ranks = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({key: str(value) for key, value in ranks.items()})
    os.environ.update(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker(*arguments)
    except tuple(EXPECTED.values()) as error:  # the user's to mend: no traceback
        kind = next(name for name, known in EXPECTED.items() if isinstance(error, known))
        errors.put((kind, str(error)))  # as text: not every exception can be sent
        sys.exit(1)


def _end_with_parent() -> None:
    """End this worker once the process that started it is gone, however early that is.

    First as a signal does, so that what was learned is saved; where that hangs, at once.
    """
    parent = parent_process()
    if parent is None:
        return
    parent.join()
    time.sleep(1)  # torch has the kernel send SIGINT too: after a SIGTERM that would be a second
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
