"""The command `likewise`, also ``python -m likewise``.

Until the command has loaded, Ctrl-C ends it as it ends other programs: Python's own handler would
print a traceback from inside whatever import it meets. Shells have the background jobs of a script
ignore SIGINT; runs and studies heed it all the same, and so it must not be lost before they do.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)

from likewise.cli import app  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Run the command."""
    app(prog_name="likewise")


if __name__ == "__main__":  # processes that a run starts import this file again
    main()
