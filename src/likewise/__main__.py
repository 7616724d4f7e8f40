"""``python -m likewise`` is the command `likewise`."""

from likewise.cli import app

if __name__ == "__main__":  # processes that a run starts import this file again
    app(prog_name="likewise")
