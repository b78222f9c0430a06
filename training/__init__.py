"""How the networks that come with the package were trained; no part of the package."""

from dci_jax.runtime import process

process.prepare()
