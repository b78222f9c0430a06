"""Divide-and-Conquer Inversion in JAX: read an input back from its features."""

__version__ = "0.2.0"
