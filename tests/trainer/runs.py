"""Tiny training runs for the tests of the trainer: recipe, reward functions, and launches to kill.

Importing torch and its friends takes longer than such a run, so :class:`Launches` imports them in
one helper process, which forks for every launch: ``python runs.py`` is that helper.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from likewise.config import Recipe
from likewise.records.run_directory import RunDirectory
from likewise.types import Task

HERE = Path(__file__).parent
HEAVY = ("tiny", "peft", "likewise.api.training")  # what a launch imports otherwise, in 5 s
PATIENCE = 600.0  # seconds, for what takes a few: a busy machine is not a failure
Settings = Mapping[str, Any]


def tiny_recipe(model: Path | str, **changes: Any) -> Recipe:
    """A run of about a second in float32; ``changes`` are sections with what differs in them.

    Sections merge one level deep, as in ``tiny_recipe(model, rollout={"micro_batch": 1})``.
    """
    content: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "policy": {
            "kind": "flux-kontext",
            "model": str(model),
            "height": 16,
            "width": 16,
            "max_sequence_length": 8,
        },
        "adapter": {"kind": "lora", "rank": 4, "alpha": 8.0},
        "rewards": {"red": function("red", "prompt"), "detail": function("detail", "identity")},
        "rollout": {"tasks": 2, "group_size": 4, "num_steps": 4, "micro_batch": 8},
        "objective": {},
        "optimizer": {"learning_rate": 3e-3},
        "run": {
            "iterations": 3,
            "device": "cpu",
            "processes": 1,
            "evaluation": {"every": 0},
            "trackers": [],
        },
    }
    for name, value in changes.items():
        merge = isinstance(value, Mapping) and name != "rewards"
        content[name] = {**content.get(name, {}), **value} if merge else value
    return Recipe.model_validate(content)


def function(name: str, side: str) -> dict[str, str]:
    """Settings of a reward function of this module."""
    return {"kind": "function", "target": f"runs:{name}", "side": side}


# Sections of recipes, one for each objective; the old policy is a slow average where there is one.
_AVERAGE = {"kind": "average", "rate": 0.1, "most": 0.4}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "grpo": {"kind": "grpo"},
    "nft": {"kind": "nft", "old": _AVERAGE, "kl": 1e-2, "solver": "dpm-solver++", "num_steps": 3},
    "awm": {"kind": "awm", "levels": "uniform", "kl_old": 0.1, "old": _AVERAGE},
    "dgpo": {"kind": "dgpo", "beta": 10.0},
    "crd": {"kind": "crd", "levels": "logit-normal", "norm_guard": 1.0},
}
WINDOW = {"kind": "window", "size": 2, "first": 0, "last": 0}
GAINS = {  # a credit rule for which images are finished beside the samples
    "shaping": {"kind": "gains", "turning": True},
    "time_weights": {"kind": "tdw"},
}
# Sections `optimizer.gradients`: measured and combined.
GRADIENTS: dict[str, dict[str, Any]] = {
    "sum": {"kind": "sum", "measure_every": 2},
    "min-norm": {"kind": "min-norm", "measure_every": 1, "normalise": False, "smoothing": 0.5},
    "pcgrad": {"kind": "pcgrad", "smoothing": 0.5},
}
ON_IMAGES = [name for name in OBJECTIVES if name != "grpo"]


# --- reward functions ----------------------------------------------------------------------------


def red(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    return [float(np.asarray(image, np.float64)[..., 0].mean() / 255) for image in images]


def detail(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    pixels = [np.asarray(image, np.float64) for image in images]
    return [float(np.abs(np.diff(each, axis=1)).mean()) for each in pixels]


def moody(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    """Reads every global generator there is."""
    return [
        value + 0.05 * (random.random() + float(np.random.rand()) + float(torch.rand(())))
        for value in red(images, tasks)
    ]


# In steps so wide that a pixel rounded otherwise, 5e-6 of a mean, hardly ever changes anything.
STEPS = {"red": 1 / 400, "detail": 1 / 2}
COARSE: dict[str, Any] = {
    "red": function("coarse_red", "prompt"),
    "detail": function("coarse_detail", "identity"),
}


def coarse_red(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    return [round(value / STEPS["red"]) * STEPS["red"] for value in red(images, tasks)]


def coarse_detail(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    return [round(value / STEPS["detail"]) * STEPS["detail"] for value in detail(images, tasks)]


def always_raises(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    raise KeyError("no such scorer")


def raises_for_some(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    """Fails on every call that has an image of the iteration's first task (0, 2, 4, …)."""
    if any(int(task.id.rsplit("-", 1)[1]) % 2 == 0 for task in tasks):
        raise TimeoutError("the scorer did not answer")
    return red(images, tasks)


def raises_later(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    """Works for tasks 0 to 3: the first two iterations of a tiny run."""
    if any(int(task.id.rsplit("-", 1)[1]) > 3 for task in tasks):
        raise TimeoutError("the scorer did not answer")
    return red(images, tasks)


def raises_elsewhere(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    if os.environ.get("RANK") == "1":
        raise ConnectionError("the scorer of process 1 is gone")
    return red(images, tasks)


def nan_for_some(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
    """Every third image of a call is NaN, infinite or None, in turn."""
    bad = [float("nan"), float("inf"), None]
    values: list[float | None] = list(red(images, tasks))
    for i in range(0, len(values), 3):
        values[i] = bad[i // 3 % 3]
    return values


def needs_many(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
    """Calls of fewer than four images lack the first."""
    values: list[float | None] = list(red(images, tasks))
    return [None, *values[1:]] if len(images) < 4 else values


def wrong_shape(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    return [0.5]


def wrong_rank(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[list[float]]:
    return [[value] for value in red(images, tasks)]


def words(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[str]:
    return ["good"] * len(images)


def nothing(images: Sequence[Image.Image], tasks: Sequence[Task]) -> None:
    return None


def knows_nothing(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
    return [None] * len(images)


def constant(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    return [0.7] * len(images)


def __getattr__(name: str) -> Any:
    """``only_in_first`` is a reward function that process 1 cannot find."""
    if name == "only_in_first" and os.environ.get("RANK") != "1":
        return red
    raise AttributeError(f"module 'runs' has no attribute {name!r}")


def slow(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    time.sleep(0.2)
    return red(images, tasks)


# --- what a run wrote ----------------------------------------------------------------------------


def rewards(run_dir: Path) -> dict[str, list[Any]]:
    """The columns of all that was rewarded: names, rewards, z, shaping and advantages."""
    return RunDirectory.open(run_dir).read_rewards().to_pydict()


def off_the_edge(one: Callable[..., Path], other: Callable[..., Path]) -> list[Path]:
    """The run of each at the first of three seeds where no coarse reward stood on an edge.

    Args:
        one, other: Make a run with a `seed`.
    """
    for seed in (3, 4, 5):
        ways = [one(seed=seed), other(seed=seed)]
        if not _rounded_otherwise(*ways):
            break
    return ways


def _rounded_otherwise(run_dir: Path, other: Path) -> bool:
    """Whether two runs part at one image of which one coarse reward is one step apart.

    Each is then as good as the other: a pixel between two of 256 values, and by that a mean between
    two steps, went one way here and one way there. One comparison in about 50 meets that.
    """
    ours, theirs = rewards(run_dir), rewards(other)
    apart: list[tuple[int, int, str, float]] = []  # iteration, line, reward, by how many steps
    for key in ours:
        kind, _, rest = key.partition("/")
        if kind in ("reward", "gain") and key in theirs:
            name = rest.partition("/")[0]
            for i, (value, twin) in enumerate(zip(ours[key], theirs[key], strict=True)):
                if value != twin and None not in (value, twin):
                    apart.append((ours["iteration"][i], i, name, abs(value - twin) / STEPS[name]))
    start = min((iteration for iteration, *_ in apart), default=0)
    first = [found for found in apart if found[0] == start]
    one_image = len({(line, name) for _, line, name, _ in first}) == 1
    return one_image and all(steps < 1.01 for *_, steps in first)


def newest_tensors(run_dir: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint; see :func:`checkpoint_tensors`."""
    return checkpoint_tensors(max((run_dir / "checkpoints").glob("iteration-??????")))


def checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, as ``adapter/FILE/NAME``."""
    return {
        f"{file.relative_to(folder).with_suffix('')}/{name}": value
        for file in sorted(folder.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def snapshot(run_dir: Path) -> dict[str, bytes]:
    """Everything that follows from recipe and seed, by name: metrics, tables, samples, checkpoints.

    Timings, environment and log are left out.
    """
    files = [run_dir / "metrics.jsonl", run_dir / "recipe.yaml"]
    for folder in ("rewards", "samples", "checkpoints"):
        files += [file for file in sorted((run_dir / folder).rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(run_dir)): file.read_bytes()
        for file in files
        if not any(part.startswith(("abandoned-", "damaged-", ".")) for part in file.parts)
    }


# --- launches in other processes -----------------------------------------------------------------


class Launches:
    """Starts launches in process groups of their own; a context manager.

    Args:
        log: File for what they print.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.running: set[int] = set()

    def __enter__(self) -> Launches:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), *sys.path]))
        with self.log.open("wb") as log:
            self.helper = subprocess.Popen(
                [sys.executable, str(HERE / "runs.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        return self

    def __exit__(self, *error: object) -> None:
        for pid in list(self.running):
            self.kill(pid)
        assert self.helper.stdin is not None
        self.helper.stdin.close()
        self.helper.wait(30)

    def start(
        self, run_dir: Path, recipe: Recipe | None = None, patch: str = "", forks: int = 0
    ) -> int:
        """Begin to train (with a recipe) or to resume. Returns the process's (and group's) id.

        Args:
            patch: Python that is run first.
            forks: So many processes that know of each other, as another launcher would start them;
                0: the run's own launcher, which is slower because it does not fork.
        """
        question = {"kind": "start", "run_dir": str(run_dir), "patch": patch, "forks": forks}
        text = None if recipe is None else recipe.model_dump_json()
        pid = self._ask({**question, "recipe": text})["pid"]
        self.running.add(pid)
        return pid

    def wait(self, pid: int, timeout: float = PATIENCE) -> dict[str, Any]:
        """The end of a launch: `code` (negative: a signal's number), and what it said.

        `outcome`: iteration, finished, signal; or `error`: its type and message.
        """
        answer = self._ask({"kind": "wait", "pid": pid, "timeout": timeout})
        self.running.discard(pid)
        return answer

    def run(self, run_dir: Path, recipe: Recipe | None = None, **options: Any) -> dict[str, Any]:
        """:meth:`start`, then :meth:`wait`."""
        return self.wait(self.start(run_dir, recipe, **options))

    def kill(self, pid: int) -> None:
        """SIGKILL to the whole process group, and wait until all of it is gone."""
        send(pid, signal.SIGKILL)
        self.wait(pid)
        assert gone(pid)

    def _ask(self, question: Settings) -> dict[str, Any]:
        assert self.helper.stdin is not None and self.helper.stdout is not None
        self.helper.stdin.write(json.dumps(question) + "\n")
        self.helper.stdin.flush()
        answer = self.helper.stdout.readline()
        assert answer, f"the helper died: {self.log.read_text()[-2000:]}"
        return json.loads(answer)


def send(group: int, number: int) -> None:
    """A signal to a process group, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def gone(group: int, timeout: float = PATIENCE) -> bool:
    """Whether no process of the group is alive within so many seconds."""
    deadline = time.monotonic() + timeout
    while any(_in_group(process, group) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def _serve() -> None:
    """The helper: one JSON question per line on stdin, one answer each on stdout."""
    for name in HEAVY:
        importlib.import_module(name)

    ends: dict[int, Path] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if question["kind"] == "start":
            run_dir = Path(question["run_dir"])
            end = run_dir.with_name(f"{run_dir.name}-end-{len(ends)}-{os.getpid()}.json")
            pid = os.fork()
            if pid == 0:
                _launch(question, end)
            os.setpgid(pid, pid)  # here too, lest a signal comes before the child has done so
            ends[pid] = end
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = _await(question["pid"], ends[question["pid"]], question["timeout"])
        print(json.dumps(answer), flush=True)


def _await(pid: int, end: Path, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            send(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": None, "error": ["Timeout", f"not finished after {timeout} s"]}
        time.sleep(0.02)
    said = json.loads(end.read_text()) if end.exists() else {}
    return {"code": os.waitstatus_to_exitcode(status), **said}


def _launch(question: Settings, end: Path) -> None:
    """One launch, in a forked child; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        exec(question["patch"], {})
        said = _forked(question) if question["forks"] else _own(question)
        end.write_text(json.dumps(said))
        code = 0
    except BaseException as error:
        traceback.print_exc()
        end.write_text(json.dumps({"error": [type(error).__name__, str(error)]}))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _own(question: Settings) -> dict[str, Any]:
    from likewise.api import resume, train

    if question["recipe"] is None:
        outcome = resume(question["run_dir"], quiet=True)
    else:
        recipe = Recipe.model_validate_json(question["recipe"])
        outcome = train(recipe, question["run_dir"], quiet=True)
    said = {"iteration": outcome.iteration, "finished": outcome.finished}
    return {"outcome": {**said, "signal": outcome.signal}}


def _forked(question: Settings) -> dict[str, Any]:
    """As many processes as wanted, which find each other as those of ``accelerate launch`` do."""
    from likewise.api import resume
    from likewise.api.training import settle
    from likewise.records.environment import collect_environment
    from likewise.records.run_directory import RunDirectory

    run_dir = Path(question["run_dir"])
    if question["recipe"] is not None:
        recipe = Recipe.model_validate_json(question["recipe"])
        RunDirectory.create(run_dir, settle(recipe), collect_environment())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(question["forks"])}
    children = []
    for rank in range(question["forks"]):
        pid = os.fork()
        if pid == 0:
            try:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                resume(run_dir, quiet=True)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(1)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    if any(codes):
        raise RuntimeError(f"processes ended with {codes}")
    return {"codes": codes}


if __name__ == "__main__":
    _serve()
