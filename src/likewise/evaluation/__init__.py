"""Measuring what training changed. `before_after` compares a policy with itself before training."""
