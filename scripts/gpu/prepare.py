"""Fill runs/gpu with what a GPU machine without network lacks: wheels, weights, a state.

    python scripts/gpu/prepare.py                                   # wheels only
    python scripts/gpu/prepare.py --vae runs/pretrain/vae/model     # and a new autoencoder
    python scripts/gpu/prepare.py --start DIR                       # and DIR/nano-kontext's weights
    python scripts/gpu/prepare.py --resume runs/pretrain/generator  # and a state to go on from

The machine gets the working tree without what git ignores, and this folder: 64 MiB together.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from transfer import MIB, TREE_SIZE, reduce_state, size_of

from likewise.pretrain.loop import STATE_FILE

ROOT = Path(__file__).parents[2]
# What likewise and diffusers need beside the machine's own packages: torch, transformers,
# accelerate, huggingface-hub, safetensors, tokenizers, numpy, scipy, pyarrow, pillow, matplotlib,
# jinja2, rich, typer, PyYAML, regex, requests, psutil and pytest are there.
WHEELS = (
    *("diffusers", "importlib_metadata", "lazy-importer", "peft"),
    *("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions"),
    *("httpx2", "httpcore2", "truststore"),
    "torchao",
)
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WEIGHTS = ("text_encoder", "text_encoder_2", "transformer", "tokenizer", "tokenizer_2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", type=Path, default=Path("runs/gpu"), help="the folder to fill")
    parser.add_argument("--vae", type=Path, help="an autoencoder, where not the shipped one")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--start", type=Path, help="finished models whose generator to begin from")
    begin.add_argument("--resume", type=Path, help="folder of a generator's training to resume")
    parser.add_argument("--no-wheels", action="store_true", help="keep the wheels that are there")
    options = parser.parse_args()
    if not options.no_wheels:
        download(options.kit / "wheels")
    inputs = options.kit / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)  # what an earlier call brought
    if options.vae:
        shutil.copytree(options.vae, inputs / "vae" / "model")
    if options.start:
        for part in WEIGHTS:
            source = options.start / "nano-kontext" / part
            shutil.copytree(source, inputs / "start" / "nano-kontext" / part)
    if options.resume:
        bring_state(options.resume, inputs / "generator", options.kit)
    report(options.kit)


def download(folder: Path) -> None:
    """The wheels of WHEELS for the machine's Python, in the versions of constraints.txt."""
    shutil.rmtree(folder, ignore_errors=True)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    names = [f"{name}=={pinned[name]}" for name in WHEELS]
    subprocess.run([*command, "--dest", str(folder), *names], check=True)


def bring_state(work: Path, target: Path, kit: Path) -> None:
    """The state and its tokenizers; the state loses what does not fit."""
    for part in ("tokenizer", "tokenizer_2"):
        shutil.copytree(work / part, target / part)
    room = TREE_SIZE - tree_size() - kit_size(kit)
    form = reduce_state(work / STATE_FILE, target / STATE_FILE, room)
    print(f"{work / STATE_FILE}: {form}")


def tree_size() -> int:
    """Bytes of what git tracks or does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return size_of(*(ROOT / name for name in names.split("\0") if name))


def kit_size(kit: Path) -> int:
    return size_of(kit / "wheels", kit / "inputs")


def report(kit: Path) -> None:
    """Print what will travel; exit code 1 if it is too much."""
    tree, brought = tree_size(), kit_size(kit)
    print(f"working tree {tree / MIB:.1f} MiB, wheels and inputs {brought / MIB:.1f} MiB")
    print("carry:", *(path for path in (kit / "wheels", kit / "inputs") if path.exists()))
    if tree + brought > TREE_SIZE:
        sys.exit(f"together more than {TREE_SIZE / MIB:.0f} MiB: bring less")


if __name__ == "__main__":
    main()
