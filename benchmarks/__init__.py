"""What was measured, each with its command; no part of the package."""

import os

from dci_jax.runtime import process

process.prepare()


def command(*words: str) -> str:
    """The line that repeats a measurement, with the variable that its times depend on (docs/speed.md)."""
    tunables = os.environ.get("GLIBC_TUNABLES")
    return " ".join([f"GLIBC_TUNABLES={tunables}"] * bool(tunables) + ["python", "-m", *words])
