"""What the public functions share: float32 arithmetic, the settings of a section, where arrays lie."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError
from dci_jax.runtime import sharding


def section_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a section of the config, with those that are given."""
    from dci_jax import settings

    section = dict(settings.default()[name].items())
    unknown = sorted(given.keys() - section.keys())
    if unknown:
        raise InputError(f"{name} has no setting {unknown[0]!r}; choose from: {', '.join(section)}.")
    return section | given


def float32() -> contextlib.AbstractContextManager:
    """float32 means float32, on a GPU and a TPU, too."""
    return jax.default_matmul_precision("highest")


def on_mesh(tree: Any) -> Any:
    """The arrays on all devices, as the solve and the training expect them."""
    return sharding.put(tree, sharding.replicated())


def as_plain(tree: Any) -> Any:
    """The arrays committed to no device and no mesh, so that they go with features that lie anywhere."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), sharding.fetch(tree))
