"""What was measured, each with its command; no part of the package."""

from dci_jax.runtime import process

process.prepare()
