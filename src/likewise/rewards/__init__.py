"""Rewards: how good an image is for its task. Each implements `likewise.protocols.Reward`."""
