"""Whatever a reward does, a run goes on: it fails alone, and leaves no trace in torch's state."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def contained(name: str, failures: dict[str, str]) -> Iterator[None]:
    """Run a reward's code: note in `failures` what it raises, and restore what it switched.

    ``sys.exit`` and KeyboardInterrupt of a reward are failures like all others. A Ctrl-C of the
    user still ends the program: where nobody handles SIGINT it is a KeyboardInterrupt too, and
    where a run does, a subclass of it (`trainer.interrupts`).
    """
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and _may_be_the_users(error):
            raise
        failures[name] = f"{type(error).__name__}: {error}"
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def _may_be_the_users(error: KeyboardInterrupt) -> bool:
    return (
        type(error) is not KeyboardInterrupt
        or signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
