"""Experiments that rebuild a side's scheduler with one thing changed and compute its schedule or its steps again."""
