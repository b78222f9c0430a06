"""What was measured, each with its command; no part of the package."""

import os

from dci_jax.runtime import process

process.prepare()

_ALLOCATORS = "GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_CONF"


def command(*words: str) -> str:
    """The line that repeats a measurement, with the variables that its times depend on (docs/speed.md)."""
    given = [f"{name}={os.environ[name]}" for name in _ALLOCATORS if os.environ.get(name)]
    return " ".join([*given, "python", "-m", *words])
