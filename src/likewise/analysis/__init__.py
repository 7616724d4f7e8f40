"""What numbers in files and arrays say: intervals, tests, fronts, conflict, curves, costs.

Everything here takes arrays, rows of `metrics.jsonl` or pyarrow tables, and gives numbers. Nothing
imports torch, reads a model or writes a file.
"""
