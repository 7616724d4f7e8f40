"""`likewise serve-reward` in processes of its own, and every command of docs/rewards.md."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

pytest.importorskip("fastapi")
from commands import ROOT, command, healthy
from faults import Answering
from serving import document, make_image, parts, png, row, wait_for

from likewise import load_recipe, train

DOCUMENT = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
TOKEN = "0123456789abcdef-a-secret"

# Everything that likewise depends on and the document's list for a service lacks.
HEAVY = [
    "accelerate",
    "diffusers",
    "jinja2",
    "matplotlib",
    "numpy",
    "peft",
    "pyarrow",
    "safetensors",
]
HEAVY += ["scipy", "tensorboard", "tokenizers", "torch", "transformers", "httpx2"]
LEAN = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it fails
from likewise.cli import app
app()
"""
REWARD = """
import time

def size(images, tasks):
    time.sleep(float(tasks[0].constraints.get("seconds", 0)))
    return [image.width for image in images]
"""


def post(url: str, **more: Any) -> httpx2.Response:
    files = parts(document([row(**more)]), png(make_image(1)))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx2.post(f"{url}/score", files=files, headers=headers, trust_env=False, timeout=60)


def test_a_lean_service_ends_well(tmp_path: Path) -> None:
    """Without torch, numpy & co.; what was accepted before SIGTERM is answered, nothing after."""
    (tmp_path / "mine.py").write_text(REWARD)
    words = ["serve-reward", "mine:size", "--host", "0.0.0.0", "--max-requests", "2"]
    with (
        command(*words, folder=tmp_path, code=LEAN, LIKEWISE_SERVICE_TOKEN=TOKEN) as (process, url),
        ThreadPoolExecutor(2) as pool,
    ):
        assert post(url).json() == {"values": [8.0]}, process.stdout and process.stdout.read()
        assert httpx2.post(f"{url}/score", trust_env=False).status_code == 401
        slow = [pool.submit(post, url, constraints={"seconds": "1.5"}) for _ in range(2)]
        wait_for(lambda: httpx2.get(f"{url}/health", trust_env=False).json()["requests"] == 2)
        full = post(url)
        assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not healthy(url))
        assert [one.result(60).json() for one in slow] == [{"values": [8.0]}] * 2
        said, _ = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)
        assert TOKEN not in said and "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Also while the reward is busy for a long time."""
    (tmp_path / "mine.py").write_text(REWARD)
    words = ["serve-reward", "mine:size"]
    with (
        command(*words, folder=tmp_path, code=LEAN) as (process, url),
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(post, url, constraints={"seconds": "100"})
        wait_for(lambda: httpx2.get(f"{url}/health", trust_env=False).json()["requests"] == 1)
        process.send_signal(number)
        wait_for(lambda: not healthy(url))
        assert process.poll() is None  # it waits for the answer
        process.send_signal(number)
        said, _ = process.communicate(timeout=10)
        assert process.returncode == 128 + number and "Traceback" not in said
        assert isinstance(slow.exception(30), httpx2.TransportError)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine:size", "--host", "0.0.0.0"], "put a token into the environment"),
        (["mine:nothing"], "has no attribute 'nothing'"),
        (["nowhere:size"], "nowhere fails to import"),
        (["mine:size", "model=x"], "for rewards of likewise, not for a function"),
        (["clip"], "rewards of likewise need all that likewise depends on"),
    ],
)
def test_what_cannot_be_served_says_why(tmp_path: Path, words: Sequence[str], message: str) -> None:
    (tmp_path / "mine.py").write_text(REWARD)
    with command("serve-reward", *words, folder=tmp_path, code=LEAN, COLUMNS="200") as started:
        process, _ = started
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 2 and message in said and "Traceback" not in said


# ── the document ──


def commands() -> list[str]:
    return re.findall(r"^(?:    )?((?:[\w/-]+/bin/)?(?:likewise|pip|python3|export) .*)$", DOCUMENT,
                      flags=re.MULTILINE)  # fmt: skip


def test_the_document_shows_the_examples() -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    assert (ROOT / "examples" / "vivid.py").read_text(encoding="utf-8") in code
    for block in code:
        compile(block, "docs/rewards.md", "exec")
    shown = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL))
    recipe = yaml.safe_load((ROOT / "examples" / "vivid-remote.yaml").read_text(encoding="utf-8"))
    assert recipe["rewards"] in [block.get("rewards") for block in shown]
    for file in re.findall(r"`((?:src|docs|tests|examples|benchmarks)/[\w./-]+)`", DOCUMENT):
        assert (ROOT / file).exists(), file
    listed = re.search(r"pip install (pillow .*)", DOCUMENT)
    assert listed is not None
    wanted = {"pillow", "pydantic", "pyyaml", "typer"}
    serve = {"fastapi", "prometheus-client", "python-multipart", "uvicorn"}
    assert set(listed[1].split()) == wanted | serve


@pytest.mark.slow
def test_commands_of_the_document_run(tmp_path: Path) -> None:
    """A service by the first command, a run against it by the next, then the others' services."""
    found = [line.split("bin/")[-1] for line in commands()]
    serving = [line for line in found if line.startswith("likewise serve-reward")]
    training = [line for line in found if line.startswith("likewise train")]
    assert len(serving) == 4 and len(training) == 1
    words = shlex.split(serving[0])[1:]
    with command(*words) as (_, url):
        small = ["run.iterations=1", "run.processes=1", "run.evaluation.every=0", "run.trackers=[]"]
        small += ["rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=4"]
        recipe = load_recipe(shlex.split(training[0])[2], [*small, f"rewards.vivid.url={url}"])
        outcome = train(recipe, tmp_path / "run", quiet=True)
        (metrics,) = outcome.run.read_metrics()
        assert metrics["reward/vivid/missing"] == 0 and 0 < metrics["reward/vivid/mean"] < 1
    with command(*shlex.split(serving[1])[1:]) as (_, url):
        assert post(url).json()["values"] == [pytest.approx(1.0, abs=1e-5)]  # to itself
    # Stands for the package, which needs a GPU and 16 GB of weights: only its shape is known here.
    package = "import torch\nclass HPSv3RewardInferencer:\n    def __init__(self, device): pass\n"
    package += "    def reward(self, prompts, image_paths):\n"
    package += "        return torch.tensor([[float(len(p)), 1.0] for p in prompts])\n"
    (tmp_path / "hpsv3.py").write_text(package)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with command(*shlex.split(serving[2])[1:], folder=tmp_path) as (_, url):
        assert post(url).json()["values"] == [len("a duck")]
    with command(*shlex.split(serving[3])[1:], LIKEWISE_SERVICE_TOKEN=TOKEN) as (_, url):
        assert post(url).status_code == 200


def test_a_run_is_not_told_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a run writes holds it."""
    monkeypatch.setenv("LIKEWISE_SERVICE_TOKEN", TOKEN)
    small = ["run.iterations=1", "run.processes=1", "run.evaluation.every=0", "rollout.tasks=1"]
    small += ["rollout.group_size=2", "rollout.num_steps=4", "run.patience=5"]
    far = "rewards.vivid.token_env=LIKEWISE_SERVICE_TOKEN"
    with Answering(f"HTTP/1.1 500 Oh\r\n\r\nwhat is {TOKEN}?".encode()) as url:
        there = [f"rewards.vivid.url={url}", "rewards.vivid.retries=0"]
        recipe = load_recipe(ROOT / "examples" / "vivid-remote.yaml", [*small, far, *there])
        outcome = train(recipe, tmp_path / "run", quiet=True)
    (metrics,) = outcome.run.read_metrics()
    assert metrics["reward/vivid/missing"] == 2 and metrics["reward/vivid/failed/error"] == 1
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
