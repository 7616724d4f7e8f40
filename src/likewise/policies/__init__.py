"""Generators that can be trained, all behind :class:`likewise.protocols.Policy`."""
