"""What a device may do to its features before it sends them. `DEFENSES` lists them, `Defense` describes one."""

import importlib

_FROM = {"DEFENSES": "registry", "Defense": "registry", "send": "channel"}


def __getattr__(name: str):
    if name in _FROM:
        return getattr(importlib.import_module(f"dci_jax.defenses.{_FROM[name]}"), name)
    raise AttributeError(f"module 'dci_jax.defenses' has no attribute {name!r}")
