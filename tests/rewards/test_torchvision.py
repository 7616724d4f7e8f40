"""Images are prepared with PIL, whether or not torchvision is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.cli import doctor_checks

# As much of torchvision as transformers imports. It resizes nothing: whoever used it would fail.
STUB = {
    "torchvision/__init__.py": "from torchvision import io, transforms\n",
    "torchvision/io.py": "ImageReadMode = decode_image = None\n",
    "torchvision/transforms/__init__.py": (
        "import enum\n"
        "class InterpolationMode(enum.Enum):\n"
        "    NEAREST = 'nearest'; NEAREST_EXACT = 'nearest-exact'; BILINEAR = 'bilinear'\n"
        "    BICUBIC = 'bicubic'; BOX = 'box'; HAMMING = 'hamming'; LANCZOS = 'lanczos'\n"
        "from torchvision.transforms import functional, v2\n"
    ),
    "torchvision/transforms/functional.py": "pil_to_tensor = None\n",
    "torchvision/transforms/v2/__init__.py": "from torchvision.transforms.v2 import functional\n",
    "torchvision/transforms/v2/functional.py": "pil_to_tensor = None\n",
    "torchvision-0.28.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n"
    ),
}
USE = """
from transformers import AutoImageProcessor
from transformers.image_processing_backends import PilBackend
from transformers.utils import is_torchvision_available

from likewise import assets
from likewise.pretrained.processors import load_image_processor
from likewise.rewards.clip import ClipReward

assert is_torchvision_available()
for name in ("nano-clip", "nano-dinov2", "evaluator-identity", "evaluator-prompt"):
    assert not isinstance(AutoImageProcessor.from_pretrained(assets.path(name)), PilBackend)
    assert isinstance(load_image_processor(assets.path(name)), PilBackend)
assert isinstance(ClipReward(assets.path("nano-clip")).processor.image_processor, PilBackend)
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_an_installed_torchvision_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, STUB)
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "status", "advice"),
    [("", "ok", ""), ("raise RuntimeError('no operator')", "problem", "pip uninstall torchvision")],
)
def test_doctor_minds_a_torchvision_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: str, advice: str
) -> None:
    write(tmp_path, {"torchvision/__init__.py": text})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    found = doctor_checks.torchvision()
    sys.modules.pop("torchvision", None)
    assert found.status == status and found.advice.startswith(advice)
