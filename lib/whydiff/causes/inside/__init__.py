"""Causes inside a network: what one module computes differently when it receives the same inputs."""
