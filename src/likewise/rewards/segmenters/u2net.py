"""U²-Net through onnxruntime: the most salient thing of an image, whatever it is.

Qin et al. 2020 (arXiv:2005.09007). ``u2netp.onnx``, 4.6 MB, is its small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from likewise.rewards.common.inputs import IMAGENET_MEAN, IMAGENET_STD, check_images

SIDE = 320
FOUND = 0.5  # the network's probability of the most salient pixel, at least, to have found one


class U2NetSegmenter:
    """Implements `Segmenter` with an ONNX file of U²-Net's layout; class names are ignored.

    The first input is float32 [B or 1, 3, 320, 320], the first output [B or 1, 1, 320, 320] in
    [0, 1]. The mask is that output stretched to [0, 255], so it is soft at the edges.

    Args:
        file: The ONNX file.
        device: A GPU is used if onnxruntime has been installed for one.

    Raises:
        ValueError: there is no such file, it has another layout, or onnxruntime is missing.
    """

    def __init__(self, file: str | Path, device: str | torch.device = "cpu") -> None:
        if not Path(file).is_file():
            raise ValueError(f"there is no file {file}")
        self.session = _session(file, torch.device(device).type)
        first = self.session.get_inputs()[0]
        self.input = first.name
        if [each for each in first.shape[1:] if isinstance(each, int)] not in (
            [3, SIDE, SIDE],
            [3],  # where height and width may be anything
        ):
            raise ValueError(
                f"{file}: the input is {first.shape}; U²-Net's is [1, 3, {SIDE}, {SIDE}]"
            )

    def knows(self, class_name: str) -> bool:
        """See `Segmenter`; always true."""
        return True

    def masks(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> Sequence[Image.Image | None]:
        """See `Segmenter`; ``None`` where no pixel is salient with probability 0.5."""
        check_images(images)
        return [self._mask(image) for image in images]

    def _mask(self, image: Image.Image) -> Image.Image | None:
        salient = self.session.run(None, {self.input: u2net_pixels(image)})[0].reshape(SIDE, SIDE)
        low, high = salient.min(), salient.max()
        if not high >= FOUND or high == low:
            return None
        stretched = Image.fromarray(np.uint8((salient - low) / (high - low) * 255))
        return stretched.resize(image.size, Image.Resampling.LANCZOS)


def u2net_pixels(image: Image.Image) -> np.ndarray:
    """float32 [1, 3, 320, 320]: squashed, divided by the brightest level, ImageNet-normalised."""
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(small, dtype=np.float32)
    normal = (levels / max(levels.max(), 1e-6) - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)


def _session(file: str | Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f'{file} needs onnxruntime: pip install "likewise[segment]"') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others work too
    wanted = [f"{device.upper()}ExecutionProvider", "CPUExecutionProvider"]
    here = onnxruntime.get_available_providers()
    providers = [each for each in dict.fromkeys(wanted) if each in here]
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # its own types, which are not public
        raise ValueError(f"{file} is not an ONNX model that can be run: {error}") from error
