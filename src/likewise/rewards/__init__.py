"""Rewards: how good a picture is for its task. Each implements `likewise.protocols.Reward`."""
