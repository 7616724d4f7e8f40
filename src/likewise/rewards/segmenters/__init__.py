"""Segmenters: where in an image is the subject? Each is a `masks.Segmenter`."""

from likewise.rewards.segmenters.loading import load_segmenter
from likewise.rewards.segmenters.masks import Segmenter

__all__ = ["Segmenter", "load_segmenter"]
