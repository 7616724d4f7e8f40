"""Segmenters: where in an image is the subject? Each is a `masks.Segmenter`."""

from likewise.rewards.segmenters.masks import Segmenter
from likewise.rewards.segmenters.segmenter_loading import load_segmenter

__all__ = ["Segmenter", "load_segmenter"]
