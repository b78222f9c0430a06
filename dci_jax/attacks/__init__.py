"""Attacks: each reconstructs inputs from features. `ATTACKS` lists them, `Attack` describes one."""

import importlib


def __getattr__(name: str):
    if name in ("ATTACKS", "Attack"):
        return getattr(importlib.import_module("dci_jax.attacks.registry"), name)
    raise AttributeError(f"module 'dci_jax.attacks' has no attribute {name!r}")
