"""The GPU kit (scripts/gpu), rehearsed on the CPU with tiny sizes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from likewise.pretrain.loop import STATE_FILE, FitRun, FitSettings, fit, stored_step
from likewise.pretrain.sampling import load_pipeline

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts" / "gpu"
TINY_DEMO = (
    *("rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=3", "run.iterations=2"),
    *("run.processes=1", "run.evaluation.every=0", "run.trackers=[]"),
)


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("transfer")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("check")


def run_kit(program: str, kit: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """``run.sh`` as on the machine, but for the device."""
    environment = {
        **os.environ,
        **{"KIT_FOLDER": str(kit), "OUT": str(out), "PYTHON": sys.executable},
        "LIKEWISE_TEST_DEVICE": "cpu",
    }
    return subprocess.run(
        ["bash", str(SCRIPTS / "run.sh"), program, "--device", "cpu", *options],
        env=environment,
        capture_output=True,
        text=True,
    )


def a_wheel(folder: Path) -> None:
    """The smallest wheel there is: a package that the machine lacks."""
    folder.mkdir(parents=True)
    info = "kit_probe-1.0.dist-info"
    files = {
        "kit_probe.py": "FOUND = True\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: kit-probe\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "kit_probe-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Kit folder and results of a training of about a second."""
    folder = tmp_path_factory.mktemp("pretrain")
    kit, out = folder / "kit", folder / "out"
    a_wheel(kit / "wheels")
    done = run_kit(
        *("pretrain", kit, out, "--minutes", "0", "--individuals", "4", "--batch-size", "2"),
        *("--workers", "0"),
    )
    assert done.returncode == 0, done.stderr
    return kit, out


def test_pretrain_brings_back_little_enough(pretrained: tuple[Path, Path]) -> None:
    kit, out = pretrained
    assert (kit / "site" / "kit_probe.py").exists()
    sizes = {file.name: file.stat().st_size for file in out.iterdir()}
    assert {"pretrain.json", "sheet.png", "pipeline.tar.1of1"} <= set(sizes)
    assert any(name.startswith("state.safetensors.1of") for name in sizes)
    assert (
        len(sizes) <= 8 and max(sizes.values()) <= 16 * 2**20 and sum(sizes.values()) < 64 * 2**20
    )
    facts = json.loads((out / "pretrain.json").read_text())
    assert facts["individuals"] == 4 and facts["hardware"].endswith("CPU cores")
    assert facts["step"] >= 1 and facts["images"] == 2 * facts["step"]
    assert {"started", "versions", "seconds", "state"} <= facts.keys()


@pytest.mark.slow
def test_pretrain_goes_on_from_what_came_back(
    pretrained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out = pretrained
    work, models, kit = tmp_path / "work", tmp_path / "models", tmp_path / "kit"
    words = ["collect.py", out, "--work", work, "--models", models]
    script(*words)
    load_pipeline(models / "nano-kontext", torch.device("cpu"))
    first = json.loads((out / "pretrain.json").read_text())["step"]
    assert stored_step(work / "generator" / STATE_FILE) == first
    words = ["prepare.py", "--no-wheels", "--kit", kit, "--resume", work / "generator"]
    said = script(*words, "--vae", models / "nano-kontext" / "vae")
    assert "working tree" in said and "MiB" in said
    done = run_kit(
        *("pretrain", kit, tmp_path / "out", "--minutes", "0", "--individuals", "2"),
        *("--batch-size", "2", "--workers", "0"),
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "pretrain.json").read_text())
    assert facts["first_step"] == first < facts["step"]
    assert facts["images"] == 2 * (facts["step"] - first)


def script(*words: str | Path) -> str:
    name, *others = map(str, words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *others],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_check_finds_times_ratios_and_failures(tmp_path: Path) -> None:
    later = ("flux", "credit", "int8", "flux-int8")  # a slow test does them all
    found = checked(tmp_path, "--skip", *later)
    assert found["ratios"]["float32"] == found["ratios"]["bfloat16"] == 0.0
    assert found["demo"]["median_seconds"]["seconds/total"] > 0
    assert found["tests"] | {"seconds": 0} == {
        "passed": 1,
        "skipped": 0,
        "failed": {},
        "seconds": 0,
    }
    assert found["evaluation"]["summary"] and not found["evaluation"]["failed"]
    assert {"hardware", "started", "versions"} <= found.keys()
    kept = {file.name for file in (tmp_path / "out").iterdir() if file.suffix != ".json"}
    assert kept == {"before-after.png", "demo-metrics.jsonl", "demo-timings.jsonl"}


@pytest.mark.slow
def test_check_rehearses_all_of_its_parts(tmp_path: Path) -> None:
    found = checked(tmp_path, "--tiny", "--pairs", "1")
    for part, name in (("flux", "kontext"), ("flux", "kontext-nft"), ("flux-int8", "kontext")):
        assert found[part][name]["tokens per second"] > 0, found[part]
    assert found["credit"]["said"][0].startswith("time of an iteration: ")
    assert found["int8"]["iterations"] == 2 and not found["int8"]["failed"]


def checked(folder: Path, *options: str) -> dict[str, Any]:
    """What `check` writes after tiny parts."""
    done = run_kit(
        *("check", folder / "kit", folder / "out", "--set", *TINY_DEMO),
        *("--evaluate=--tasks=2", "--evaluate=--steps=2", "--only-tests", "noise"),
        *("--tolerance", "2", "--minutes", "60", *options),  # a busy machine is not a failure here
    )
    (file,) = (folder / "out").glob("*-cpu-check.json")
    found = json.loads(file.read_text())
    assert done.returncode == 0, found
    return found


def test_a_part_that_fails_is_a_finding(check: ModuleType, tmp_path: Path) -> None:
    words = ["--kit", str(tmp_path / "kit"), "--out", str(tmp_path), "--started", "0"]
    one = check.Check(check.parse([*words, "--device", "cpu", "--set", "rollout.tasks=0"]))
    for name in ("ratios", "evaluation", "flux"):  # a recipe that is refused; commands out of time
        one.do(name, check.PARTS[name])
    found = json.loads((tmp_path / one.name).read_text())
    assert "rollout.tasks" in found["ratios"]["error"]
    assert "time was up: likewise evaluate" in found["evaluation"]["error"]
    assert "time was up: benchmarks/flux_size.py" in found["flux"]["error"]
    assert not one.is_fine()


def test_outcomes_of_tests_are_read_from_their_report(check: ModuleType) -> None:
    ends = ("", "<skipped/>", '<failure message="1 != 2">where</failure>', "<error>no GPU</error>")
    cases = [ElementTree.fromstring(f"<testcase>{end}</testcase>") for end in ends]
    outcome = importlib.import_module("check_parts").outcome
    assert [outcome(case) for case in cases] == ["passed", "skipped", "1 != 2", "no GPU"]


def test_the_demo_is_compared_with_the_readme(check: ModuleType) -> None:
    parts = importlib.import_module("check_parts")
    printed = parts.read_table((ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(printed) == set(parts.ROWS.values())
    systems = {
        system: {metric: {"mean": pair[number]} for metric, pair in printed.items()}
        for number, system in enumerate(("before", "after"))
    }
    assert parts.differing({"systems": systems}, printed, 1e-9) == {}
    systems["after"]["evaluator/prompt"]["mean"] -= 0.1
    assert list(parts.differing({"systems": systems}, printed, 0.05)) == ["evaluator/prompt after"]


@pytest.mark.parametrize(
    ("hardware", "short"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA L40S", "l40s"), ("2 CPU cores", "cpu")],
)
def test_results_are_named_after_date_and_gpu(check: ModuleType, hardware: str, short: str) -> None:
    name = check.result_name(hardware, "2026-11-28T00:15:00+00:00")
    assert name == f"2026-11-28-{short}-check.json"


def test_an_unknown_program_is_a_usage_error(tmp_path: Path) -> None:
    done = run_kit("train", tmp_path, tmp_path)
    assert done.returncode == 2 and "usage" in done.stderr


# What travels


def test_parts_are_joined_and_checked(
    transfer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_SIZE", 10)
    out = tmp_path / "out"
    out.mkdir()
    source = tmp_path / "file.bin"
    source.write_bytes(bytes(range(35)))
    transfer.put_parts(out, source)
    source.write_bytes(bytes(range(25)))  # a later save, in fewer parts
    wanted = transfer.put_parts(out, source)
    assert sorted(file.name for file in out.iterdir()) == [f"file.bin.{n}of3" for n in (1, 2, 3)]
    transfer.join(out, "file.bin", tmp_path / "joined", wanted)
    assert (tmp_path / "joined").read_bytes() == bytes(range(25))
    (out / "file.bin.2of3").write_bytes(b"of another")
    with pytest.raises(ValueError, match="different saves"):
        transfer.join(out, "file.bin", tmp_path / "again", wanted)
    (out / "file.bin.2of3").unlink()
    with pytest.raises(FileNotFoundError, match="2of3"):
        transfer.join(out, "file.bin", tmp_path / "again", wanted)
    assert not (tmp_path / "again").exists()


def test_a_reduced_state_still_resumes(transfer: ModuleType, tmp_path: Path) -> None:
    settings = FitSettings("line", steps=2, batch_size=1, learning_rate=1e-2)

    def train(folder: Path, steps: int) -> bool:
        torch.manual_seed(0)
        model = torch.nn.Linear(300, 300)

        def sample(index):
            return {"x": torch.randn(300, generator=torch.Generator().manual_seed(index))}

        def loss(batch, generator):
            return model(batch["x"]).float().square().mean(), {}

        run = FitRun(folder, torch.device("cpu"), workers=0)
        return fit(model, sample, loss, dataclasses.replace(settings, steps=steps), run)

    train(tmp_path / "whole", 2)
    state = tmp_path / "whole" / STATE_FILE
    one = load_file(state)["model.weight"].nbytes
    forms = {}
    for factor in (4.5, 3.5, 2.5, 1.75):
        folder = tmp_path / str(factor)
        folder.mkdir()
        limit = int(factor * one) + transfer.MIB
        forms[factor] = transfer.reduce_state(state, folder / STATE_FILE, limit)
        assert (folder / STATE_FILE).stat().st_size <= limit
        assert train(folder, 3) and stored_step(folder / STATE_FILE) == 3
    assert list(forms.values()) == [
        *("exact", "moments in bfloat16", "no moments", "no moments, weights in bfloat16")
    ]
    with pytest.raises(ValueError, match="weights and averages alone"):
        transfer.reduce_state(state, tmp_path / "none", one)


def test_results_are_replaced_at_once(transfer: ModuleType, tmp_path: Path) -> None:
    transfer.put(tmp_path, "a", lambda path: path.write_text("whole"))

    def fails(path: Path) -> None:
        path.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        transfer.put(tmp_path, "a", fails)
    assert (tmp_path / "a").read_text() == "whole"


def test_every_wheel_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    prepare = importlib.import_module("prepare")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert [name for name in prepare.WHEELS if f"\n{name}==" not in pinned] == []


def test_too_much_to_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    prepare = importlib.import_module("prepare")
    (tmp_path / "inputs").mkdir()
    save_file({"x": torch.zeros(10)}, tmp_path / "inputs" / "x.safetensors")
    prepare.report(tmp_path)
    monkeypatch.setattr(prepare, "TREE_SIZE", prepare.tree_size())
    with pytest.raises(SystemExit, match="bring less"):
        prepare.report(tmp_path)
    assert str(tmp_path / "inputs") in capsys.readouterr().out
