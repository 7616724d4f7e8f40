"""What workers of `trainer.launch` do in tests; imports nothing, so that they start soon."""

import os
import signal
import sys
import time


def one_is_killed() -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(2)


def one_exits() -> None:
    if os.environ["RANK"] == "1":
        sys.exit(3)


def sleeps() -> None:
    time.sleep(600)


def holds_ctrl_c_back() -> None:
    if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
        sys.exit(3)
