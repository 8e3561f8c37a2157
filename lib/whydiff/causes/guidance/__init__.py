"""Guidance: how two predictions are combined, and what of it each branch of the network receives."""
