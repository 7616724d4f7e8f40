"""Reinforcement learning for subject-driven image generators whose rewards conflict."""

__version__ = "0.1.0"
