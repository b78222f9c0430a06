"""Helpers of the public functions: argument checks, float32 arithmetic, a section's settings, placement of arrays."""

import contextlib
import numbers
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import settings
from dci_jax.defenses.channel import Channel, send
from dci_jax.errors import InputError, reason
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime import sharding
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import Range


def section_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A config section's defaults, updated with the settings given."""
    section = dict(settings.default()[name].items())
    unknown = sorted(given.keys() - section.keys())
    if unknown:
        raise InputError(f"{name} has no setting {unknown[0]!r}; choose from: {', '.join(section)}.")
    return section | given


def float32() -> contextlib.AbstractContextManager:
    """Compute float32 matrix products in full float32, on GPUs and TPUs, too."""
    return jax.default_matmul_precision("highest")


def on_mesh(tree: Any) -> Any:
    """Replicate the arrays to all devices, as the solver and the training expect."""
    return sharding.put(tree, sharding.replicated())


def as_plain(tree: Any) -> Any:
    """Uncommit the arrays from devices and meshes, so that they combine with features on any device."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), sharding.fetch(tree))


def check_values(**given: tuple[Any, str]) -> None:
    """Check arguments against the config fields that they correspond to: `name=(value, "dci.num_images")`.

    Raises:
      InputError: a value is not a number, or is out of range.
    """
    for name, (value, field) in given.items():
        form = FIELDS[field].form
        allowed = form if isinstance(form, Range) else form.each
        several = not isinstance(form, Range) and isinstance(value, tuple | list)
        for number in value if several else (value,):
            if isinstance(number, bool) or not isinstance(number, numbers.Real) or number not in allowed:
                raise InputError(
                    f"{name} is {described(value)}; give {'for each number ' if several else ''}{allowed}."
                )


def described(value: Any) -> str:
    """A value in a sentence: itself, or what it is where that would take a line."""
    if hasattr(value, "shape"):
        return f"an array of shape {list(value.shape)}" if getattr(value, "ndim", 1) else str(value)
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def check_key(key: Any) -> None:
    """Raise InputError unless `key` is a PRNG key, typed or legacy (uint32)."""
    kind = getattr(key, "dtype", None)
    if kind is None or not (
        jax.dtypes.issubdtype(kind, jax.dtypes.prng_key) or (kind == np.uint32 and key.shape == (2,))
    ):
        raise InputError(f"key is {described(key)}; give a PRNG key, such as jax.random.key(0).")


def check_prior(prior: Any, network: Network) -> None:
    """Raise InputError unless `prior` generates inputs that the network accepts, of its size or smaller."""
    if not isinstance(prior, Prior):
        raise InputError(f"prior is a {type(prior).__name__}; give what fit_prior returns.")
    shape, own = prior.shape, network.input_shape
    if len(shape) != len(own) or shape[-1] != own[-1] or any(a > b for a, b in zip(shape, own, strict=True)):
        raise InputError(
            f"The prior makes inputs of shape {list(shape)}, but {network.name} takes {list(own)}; fit a prior to this network."
        )


def check_defense(defense: Any, network: Network, split: str) -> None:
    """Raise InputError unless `defense` is one that was made for features of this split's shape."""
    if not isinstance(defense, Channel):
        raise InputError(f"defense is {described(defense)}; give what learn_defense returns.")
    shape = feature_shapes(network)[split_index(network, split)]
    features = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        found = jax.eval_shape(lambda f, key: send(defense, key, f), features, jax.random.key(0)).shape
    except (TypeError, ValueError) as error:
        found = reason(error)
    if found != features.shape:
        raise InputError(
            f"The defense {defense.label} does not suit the features {list(shape)} at {split} ({found}); give learn_defense this split "
            "point of this network."
        )


def folder_of(cache_dir: str | Path | None) -> Path | None:
    """The folder for results, or None.

    Raises:
      InputError: the path is a file.
    """
    if cache_dir is None:
        return None
    if Path(cache_dir).exists() and not Path(cache_dir).is_dir():
        raise InputError(f"cache_dir is {cache_dir}, which is not a folder; give another.")
    return Path(cache_dir)
