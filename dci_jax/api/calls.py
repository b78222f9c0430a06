"""What the public functions share: checks of arguments, float32 arithmetic, the settings of a section, where arrays lie."""

import contextlib
import numbers
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import settings
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network
from dci_jax.runtime import sharding
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import Range


def section_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a section of the config, with those that are given."""
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


def check_values(**given: tuple[Any, str]) -> None:
    """Check arguments against the fields of the config that they are: `name=(value, "dci.num_images")`.

    Raises:
      InputError: a value is not a number, or is out of range.
    """
    for name, (value, field) in given.items():
        form = FIELDS[field].form
        allowed = form if isinstance(form, Range) else form.each
        several = not isinstance(form, Range) and isinstance(value, tuple | list)
        for number in value if several else (value,):
            if isinstance(number, bool) or not isinstance(number, numbers.Real) or number not in allowed:
                raise InputError(f"{name} is {value}; give {'for each number ' if several else ''}{allowed}.")


def check_key(key: Any) -> None:
    """Raise InputError unless `key` is a PRNG key, of the new kind or the old one."""
    kind = getattr(key, "dtype", None)
    if kind is None or not (
        jax.dtypes.issubdtype(kind, jax.dtypes.prng_key) or (kind == np.uint32 and key.shape == (2,))
    ):
        raise InputError(f"key is {key!r}; give a PRNG key, such as jax.random.key(0).")


def check_prior(prior: Any, network: Network) -> None:
    """Raise InputError unless `prior` makes inputs that the network takes, of its size or smaller."""
    if not isinstance(prior, Prior):
        raise InputError(f"prior is a {type(prior).__name__}; give what fit_prior returns.")
    shape, own = prior.shape, network.input_shape
    if len(shape) != len(own) or shape[-1] != own[-1] or any(a > b for a, b in zip(shape, own, strict=True)):
        raise InputError(
            f"The prior makes inputs of shape {list(shape)}, but {network.name} takes {list(own)}; fit one to it."
        )


def folder_of(cache_dir: str | Path | None) -> Path | None:
    """The folder that keeps results; None for none.

    Raises:
      InputError: a file is there.
    """
    if cache_dir is None:
        return None
    if Path(cache_dir).exists() and not Path(cache_dir).is_dir():
        raise InputError(f"cache_dir is {cache_dir}, which is not a folder; give another.")
    return Path(cache_dir)
