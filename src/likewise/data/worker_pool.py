"""Worker processes that open images. They do not import torch, and end with their parent.

Pillow decodes one image on one core; and what a damaged file does to a decoder, it does there.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

_STATE: tuple[Any, ...] = ()


def start_pool(processes: int, *shared: Any) -> ProcessPoolExecutor:
    """A pool in whose processes `state` gives what is `shared`, which is sent once."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _begin, shared)


def state() -> tuple[Any, ...]:
    """What all work of this process of a pool needs."""
    return _STATE


def _begin(*shared: Any) -> None:
    global _STATE
    _STATE = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that began this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
