"""What `check.py` does on a GPU: one function per part, and what each found as a dict."""

from __future__ import annotations

import json
import re
import statistics
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.api import train
from likewise.api.jobs import BEFORE_AFTER
from likewise.config import load_recipe
from likewise.evaluation.summary import SUMMARY
from likewise.records.run_directory import RunDirectory

if TYPE_CHECKING:
    from check import Check

DEMO = "stickers-nft-measured-tdw"  # the recipe of `make demo`
DTYPES = ("float32", "bfloat16")
ANY_RATIO = 1.0  # a tolerance that lets a run start whose ratios are off, so that they are measured
MARK = "pytest.mark.cuda"
TAIL = 2000  # characters of a failed command's output
FLUX_SECONDS = 240.0  # so that the demo still comes in time
# Rows of the README's table, and what an evaluation calls them.
ROWS = {
    "prompt reward": "reward/prompt",
    "identity reward": "reward/identity",
    "same subject (held-out evaluator)": "evaluator/identity",
    "prompt followed (held-out evaluator)": "evaluator/prompt",
}


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


def flux(check: Check) -> dict[str, Any]:
    """Iterations of FLUX's size, by GRPO and by NFT; whatever was measured when time is up."""
    return flux_size(check, "flux.json", most=FLUX_SECONDS)


def flux_int8(check: Check) -> dict[str, Any]:
    """GRPO once more, with the frozen weights in 8 bits."""
    words = ["--quantization", "torchao-int8", "--only", "kontext"]
    return flux_size(check, "flux-int8.json", *words)


def flux_size(check: Check, name: str, *words: str, most: float = float("inf")) -> dict[str, Any]:
    file = check.work / name
    options = ["--device", check.options.device, "--iterations", "1", "--out", file, *words]
    options += ["--tiny"] if check.options.tiny else []
    found: dict[str, Any] = {}
    try:
        check.command("benchmarks/flux_size.py", *options, most=most)
    except RuntimeError as error:
        found = {"error": str(error)[-TAIL:]}
    told = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {name: one for name, one in told.items() if name.startswith(("kontext", "mat"))} | found


def credit(check: Check) -> dict[str, Any]:
    """SARS and TDW against naive, in alternating pairs of iterations."""
    words = ["--pairs", check.options.pairs, *check.options.set]
    changes = [f"run.device={check.options.device}", "rollout.tasks=2"]
    said = check.command("benchmarks/credit_cost.py", *words, *changes)
    return {"said": said.strip().splitlines()[-3:]}


def demo(check: Check) -> dict[str, Any]:
    """The training of `make demo`: seconds of all of it, and per phase of an iteration."""
    run = check.work / "demo"
    changes = [*check.options.set, f"run.device={check.options.device}"]
    begun = time.monotonic()
    check.command("likewise", "train", DEMO, *changes, "--run-dir", run, "--quiet")
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
    """`likewise evaluate` of the demo, and where it differs from the README's table."""
    run, folder = check.work / "demo", check.work / "demo" / "evaluation"
    options = ["--device", check.options.device, "--out", folder, *check.options.evaluate]
    check.command("likewise", "evaluate", run, *options)
    check.keep(folder / BEFORE_AFTER, BEFORE_AFTER)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    printed = read_table(Path("README.md").read_text(encoding="utf-8"))
    return {"failed": differing(summary, printed, check.options.tolerance), "summary": summary}


def read_table(text: str) -> dict[str, tuple[float, float]]:
    """Metric → before and after, in the README's table of the demo."""
    rows = re.findall(r"^\| ([^|]+?) \| (\d\.\d+) \| (\d\.\d+) \|", text, re.MULTILINE)
    return {ROWS[name]: (float(one), float(two)) for name, one, two in rows if name in ROWS}


def differing(
    summary: Mapping[str, Any], printed: Mapping[str, tuple[float, float]], tolerance: float
) -> dict[str, str]:
    """Means that are further from the table than the tolerance, in words."""
    found = {}
    for metric, pair in printed.items():
        for system, wanted in zip(("before", "after"), pair, strict=True):
            mean = summary["systems"][system][metric]["mean"]
            if mean is None or abs(mean - wanted) > tolerance:
                found[f"{metric} {system}"] = f"{mean} here, {wanted} in README.md"
    return found


def int8(check: Check) -> dict[str, Any]:
    """Two iterations on frozen weights in 8 bits; ratios have to be 1 for it to start."""
    run = check.work / "int8"
    changes = [*check.options.set, f"run.device={check.options.device}", "run.iterations=2"]
    changes += ["run.evaluation.every=0", "policy.quantization=torchao-int8"]
    check.command("likewise", "train", "stickers", *changes, "--run-dir", run, "--quiet")
    rows = RunDirectory.open(run).read_metrics()
    skipped = [row["update/skipped"] for row in rows if "update/skipped" in row]
    return {"iterations": len(skipped), "failed": {"skipped": skipped} if any(skipped) else {}}


# Most wanted first.
PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "ratios": ratios,
    "tests": tests,
    "flux": flux,
    "demo": demo,
    "evaluation": evaluation,
    "credit": credit,
    "int8": int8,
    "flux-int8": flux_int8,
}
