"""A custom reward: how vivid an image is, from 0 (grey) to 1."""

import numpy as np


def vivid(images, tasks):
    """Mean saturation of each image; `tasks` say what was asked for, and are not needed here."""
    return [np.asarray(image.convert("HSV"))[..., 1].mean() / 255 for image in images]
