"""The reward service: any reward behind HTTP, in an environment of its own.

This package imports neither torch nor numpy, so that a reward's environment decides what is in it.
"""
