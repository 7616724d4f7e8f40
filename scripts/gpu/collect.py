"""Put results of `run.sh pretrain` where `likewise pretrain` looks for them.

    python scripts/gpu/collect.py RESULTS --work runs/pretrain --models runs/models

``MODELS/nano-kontext`` becomes the averaged weights as a pipeline, ``WORK/generator`` holds state,
tokenizers and log.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from transfer import join, unpack

from likewise.pretrain.loop import STATE_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="what came back")
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain"))
    parser.add_argument("--models", type=Path, default=Path("runs/models"))
    options = parser.parse_args()
    facts = json.loads((options.results / "pretrain.json").read_text(encoding="utf-8"))
    work, pipeline = options.work / "generator", options.models / "nano-kontext"
    work.mkdir(parents=True, exist_ok=True)
    archive = work / "pipeline.tar"
    join(options.results, "pipeline.tar", archive, facts["sha256"]["pipeline.tar"])
    unpack(archive, pipeline)
    archive.unlink()
    join(options.results, STATE_FILE, work / STATE_FILE, facts["sha256"][STATE_FILE])
    for part in ("tokenizer", "tokenizer_2"):
        shutil.copytree(pipeline / part, work / part, dirs_exist_ok=True)
    for name in ("metrics.jsonl", "sheet.png"):
        if (options.results / name).exists():
            shutil.copyfile(options.results / name, work / name)
    print(f"step {facts['step']} ({facts['images']} images there): {pipeline}, {work}")


if __name__ == "__main__":
    main()
