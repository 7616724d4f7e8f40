"""Talking to a reward service: what goes over the wire, one exchange, when to leave it alone."""
