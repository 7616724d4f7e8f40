"""Datasets on disk: a module for each kind, and what they share."""
