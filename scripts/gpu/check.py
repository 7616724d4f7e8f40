"""Check likewise on a GPU: what could go wrong there, and how fast it is.

Started by `run.sh`. Writes DATE-GPU-check.json after every part, made to be kept in
benchmarks/results/, and beside it the demo's before/after image, its metrics and times. The parts
are in `check_parts.py`, in the order of what is worth most if the machine is taken away.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from check_parts import PARTS, TAIL
from pretrain import hardware, new_parser
from transfer import put

from likewise.records.environment import collect_environment

MODELS = re.compile(r"[A-Z]+\d+[A-Z]*")  # of GPUs: H100, A100, L40S


def main() -> None:
    options = parse(sys.argv[1:])
    check = Check(options)
    for name, part in PARTS.items():
        if name not in options.skip:
            check.do(name, part)
    print(json.dumps(check.found, indent=1))
    sys.exit(0 if check.is_fine() else 1)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = new_parser("check", __doc__)
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--skip", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--only-tests", help="pytest's -k")
    parser.add_argument("--set", nargs="*", default=[], help="changes to the demo's recipe")
    parser.add_argument("--tolerance", type=float, default=0.05, help="of the README's table")
    parser.add_argument("--tiny", action="store_true", help="a small model in place of FLUX")
    parser.add_argument("--pairs", type=int, default=7, help="of iterations: SARS and TDW, naive")
    parser.add_argument(
        "--evaluate", action="append", default=[], help="an option of likewise evaluate"
    )
    parser.set_defaults(minutes=8.6)
    options = parser.parse_args(arguments)
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return options


class Check:
    """Does one part after another within the time, and keeps what was found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work = options.kit / "work" / "check"
        self.work.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, Any] = {
            "hardware": hardware(torch.device(options.device)),
            **collect_environment(),
        }
        self.name = result_name(self.found["hardware"], self.found["started"])

    def do(self, name: str, part: Callable[[Check], Mapping[str, Any]]) -> None:
        """One part; that it failed is a finding too."""
        started = time.monotonic()
        try:
            result = dict(part(self))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"[-TAIL:]}
        result["seconds"] = round(time.monotonic() - started, 1)
        self.found[name] = result
        text = json.dumps(self.found, indent=1) + "\n"
        put(self.options.out, self.name, lambda path: path.write_text(text, encoding="utf-8"))
        print(f"{name}: {result}", flush=True)

    def is_fine(self) -> bool:
        parts = [self.found[name] for name in PARTS if name in self.found]
        return all("error" not in part and not part.get("failed") for part in parts)

    def command(self, *words: str | Path, most: float = float("inf")) -> str:
        """Run a Python module or file in what is left of the time; its output.

        Args:
            most: Seconds that it may take.

        Raises:
            RuntimeError: it fails (the message is the end of its output), or time is up.
        """
        left = min(most, self.options.started + 60 * self.options.minutes - time.time())
        program = [] if str(words[0]).endswith(".py") else ["-m"]
        try:
            done = subprocess.run(
                [sys.executable, *program, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(left, 0.01),
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"time was up: {words[0]} {words[1]}") from error
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stdout[-TAIL:]}")
        return done.stdout

    def keep(self, source: Path, name: str) -> None:
        """Bring a file to the results, if it is there."""
        if source.exists():
            put(self.options.out, name, lambda path: path.write_bytes(source.read_bytes()))


def result_name(hardware: str, started: str) -> str:
    """``2026-11-28-h100-check.json``; of what is not a GPU, ``…-cpu-…``."""
    model = MODELS.search(hardware.replace("CPU", ""))
    return f"{started[:10]}-{model[0].lower() if model else 'cpu'}-check.json"


if __name__ == "__main__":
    main()
