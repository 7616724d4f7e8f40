"""Parts of the HPSv3 reward: what it asks, how its checkpoint is laid out, and its model."""
