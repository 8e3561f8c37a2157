"""Sides that can be run."""
