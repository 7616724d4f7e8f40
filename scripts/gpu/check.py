"""Check likewise on a GPU: start-up ratios, the demo with times, and the tests marked `cuda`.

Started by `run.sh`. Writes check.json after every part, made to be kept in benchmarks/results/, and
beside it the demo's before/after image, its metrics and times, and what the tests said.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pretrain import hardware, new_parser
from transfer import put

from likewise.api import train
from likewise.api.jobs import BEFORE_AFTER
from likewise.config import load_recipe
from likewise.evaluation.summary import SUMMARY
from likewise.records.environment import collect_environment
from likewise.records.run_directory import RunDirectory

DTYPES = ("float32", "bfloat16")
ANY_RATIO = 1.0  # a tolerance that lets a run start whose ratios are off, so that they are measured
GPU_TOLERANCE = 1e-5  # for the demo where ratios are not exactly 1: well below its clip_range
MARK = "pytest.mark.cuda"
TAIL = 2000  # characters of a failed command's output


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
    parser.add_argument(
        "--evaluate", action="append", default=[], help="an option of likewise evaluate"
    )
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
        put(self.options.out, "check.json", lambda path: path.write_text(text, encoding="utf-8"))
        print(f"{name}: {result}", flush=True)

    def is_fine(self) -> bool:
        parts = [self.found[name] for name in PARTS if name in self.found]
        return all("error" not in part and not part.get("failed") for part in parts)

    def command(self, *words: str | Path) -> str:
        """Run a Python module in what is left of the time; its output.

        Raises:
            RuntimeError: it fails (the message is the end of its output), or time is up.
        """
        left = self.options.started + 60 * self.options.minutes - time.time()
        try:
            done = subprocess.run(
                [sys.executable, "-m", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(left, 0.0),
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


def ratios(check: Check) -> dict[str, Any]:
    """Largest |ratio − 1| of a replay before the first update, by dtype."""
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        changes = [
            *check.options.set,
            *("run.iterations=1", "run.evaluation.every=0", "run.trackers=[]"),
            f"run.device={check.options.device}",
            f"policy.dtype={dtype}",
            f"objective.ratio_tolerance={ANY_RATIO}",
        ]
        recipe = load_recipe("stickers", changes)
        rows = train(recipe, check.work / f"ratio-{dtype}", quiet=True).run.read_metrics()
        found[dtype] = rows[-1]["update/ratio_deviation"]
    return found


def demo(check: Check) -> dict[str, Any]:
    """The training of `make demo`: seconds of all of it, and per phase of an iteration."""
    run = check.work / "demo"
    known = [check.found.get("ratios", {}).get(dtype, 0.0) for dtype in DTYPES]
    changes = [*check.options.set, f"run.device={check.options.device}"]
    if any(known):
        changes.append(f"objective.ratio_tolerance={GPU_TOLERANCE}")
    begun = time.monotonic()
    check.command("likewise", "train", "stickers", *changes, "--run-dir", run, "--quiet")
    found = {"changes": changes, "train_seconds": round(time.monotonic() - begun, 1)}
    rows = RunDirectory.open(run).read_timings()
    found["median_seconds"] = medians(rows)
    for name in ("metrics.jsonl", "timings.jsonl"):
        check.keep(run / name, f"demo-{name}")
    return found


def medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of every number of some timings, over the iterations that have it; the first is left out."""
    later = rows[1:] or rows
    names = dict.fromkeys(name for row in later for name in row if name != "iteration")
    return {
        name: round(statistics.median(row[name] for row in later if name in row), 4)
        for name in names
    }


def evaluation(check: Check) -> dict[str, Any]:
    """`likewise evaluate` of the demo: held-out evaluators before and after."""
    run, folder = check.work / "demo", check.work / "demo" / "evaluation"
    options = ["--device", check.options.device, "--out", folder, *check.options.evaluate]
    check.command("likewise", "evaluate", run, *options)
    check.keep(folder / BEFORE_AFTER, BEFORE_AFTER)
    return {"summary": json.loads((folder / SUMMARY).read_text(encoding="utf-8"))}


def tests(check: Check) -> dict[str, Any]:
    """The tests with the marker: how many passed, and what those that did not said."""
    report = check.work / "tests.xml"
    # Files without such tests are not even imported: they want packages that may not be here.
    files = [file for file in Path("tests").rglob("test_*.py") if MARK in file.read_text("utf-8")]
    words = ["pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", f"--junitxml={report}"]
    words += ["-k", check.options.only_tests] if check.options.only_tests else []
    try:
        check.command(*words, *files)
    except RuntimeError:
        if not report.exists():  # else the report says what failed
            raise
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    outcomes = {case.get("name", ""): outcome(case) for case in cases}
    failed = {name: said for name, said in outcomes.items() if said not in ("passed", "skipped")}
    return {
        "passed": sum(said == "passed" for said in outcomes.values()),
        "skipped": sum(said == "skipped" for said in outcomes.values()),
        "failed": failed,
    }


def outcome(case: ElementTree.Element) -> str:
    """passed, skipped, or how a test failed."""
    for child in case:
        if child.tag == "skipped":
            return "skipped"
        if child.tag in ("failure", "error"):
            return (child.get("message") or child.text or child.tag)[:TAIL]
    return "passed"


PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "ratios": ratios,
    "tests": tests,
    "demo": demo,
    "evaluation": evaluation,
}

if __name__ == "__main__":
    main()
