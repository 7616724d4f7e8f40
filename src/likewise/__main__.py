"""The command `likewise`, also ``python -m likewise``.

Until the command has loaded, Ctrl-C ends it as it ends other programs: Python's own handler would
print a traceback from inside whatever import it meets.
"""

import signal

_handler = signal.getsignal(signal.SIGINT)
if _handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from likewise.cli import app  # noqa: E402

if _handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, _handler)


def main() -> None:
    """Run the command."""
    app(prog_name="likewise")


if __name__ == "__main__":  # processes that a run starts import this file again
    main()
