"""Helpers of the public functions: argument checks, float32 arithmetic, a section's settings, placement of arrays."""

import contextlib
import math
import numbers
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import settings
from dci_jax.defenses.channel import Channel, send
from dci_jax.errors import InputError, described, reason
from dci_jax.inputs.latents import LATENTS
from dci_jax.inputs.mixture import POOL, Prior, mixture
from dci_jax.inputs.procedural import GENERATORS
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime import sharding
from dci_jax.settings.check import check_value
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import Range


def section_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A config section's defaults, updated with the settings given.

    Raises:
      InputError: there is no such setting, or a value is wrong.
    """
    section = dict(settings.default()[name].items())
    unknown = sorted(given.keys() - section.keys())
    if unknown:
        raise InputError(f"{name} has no setting {unknown[0]!r}; choose from: {', '.join(section)}.")
    for setting, value in given.items():
        check_value(setting, value, FIELDS[f"{name}.{setting}"].form)
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


def check_values(**given: tuple[Any, str | Range]) -> None:
    """Check arguments against a range, or the config fields that they correspond to: `name=(value, "dci.num_images")`.

    Raises:
      InputError: a value is not a number, or is out of range.
    """
    for name, (value, field) in given.items():
        form = FIELDS[field].form if isinstance(field, str) else field
        check_value(name, value, form if isinstance(form, Range) or isinstance(value, tuple | list) else form.each)


def check_key(key: Any) -> None:
    """Raise InputError unless `key` is one PRNG key, typed or legacy (uint32)."""
    kind, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = kind is not None and jax.dtypes.issubdtype(kind, jax.dtypes.prng_key)
    if not (shape == () if typed else (kind == np.uint32 and shape == (2,))):
        raise InputError(f"key is {described(key)}; give a PRNG key, such as jax.random.key(0).")


def check_prior(prior: Any, network: Network) -> None:
    """Raise InputError unless `prior` generates inputs that the network accepts, of its size or smaller."""
    if not isinstance(prior, Prior):
        raise InputError(f"prior is a {type(prior).__name__}; give what fit_prior returns.")
    check_mixture(prior)
    shape, own = prior.shape, network.input_shape
    if len(shape) != len(own) or shape[-1] != own[-1] or not all(0 < a <= b for a, b in zip(shape, own, strict=True)):
        raise InputError(
            f"The prior makes inputs of shape {list(shape)}, but {network.name} takes {list(own)}; fit a prior to this network."
        )


def check_mixture(prior: Prior) -> None:
    """Raise InputError unless the prior's sources and images are right: one that was made by hand may not be."""
    if not isinstance(prior.shape, tuple | list) or not all(isinstance(n, int) and n > 0 for n in prior.shape):
        raise InputError(
            f"The prior's shape is {described(prior.shape)}; give whole numbers above 0, such as (32, 32, 3)."
        )
    if not hasattr(prior.pool, "__len__"):
        raise InputError(f"The prior's pool is {described(prior.pool)}; give images, or () for none.")
    weights = as_weights(prior.weights, "The prior's weights")
    mixture(weights, len(prior.pool), LATENTS if len(prior.shape) == 1 else (POOL, *GENERATORS))
    if POOL in weights:
        check_images(np.asarray(prior.pool[0])[None], prior.shape)


def check_images(images: Any, shape: tuple[int, ...]) -> None:
    """Raise InputError unless synthesized images are uint8 [N, H, W, C], at least as large as the prior's."""
    found = getattr(images, "shape", ())
    if len(shape) != 3:
        raise InputError(
            f"The prior makes inputs of shape {list(shape)}, to which no images can be added; fit a prior of images."
        )
    right = len(found) == 4 and found[0] and found[3] == shape[2] and found[1] >= shape[0] and found[2] >= shape[1]
    if not right or images.dtype != np.uint8:
        kind = f" of {images.dtype}" if hasattr(images, "dtype") else ""
        raise InputError(
            f"The synthesized images are {described(images)}{kind}; give uint8 [N, H, W, {shape[2]}], at least {shape[0]} x {shape[1]} pixels."
        )


def as_weights(weights: Any, name: str = "weights") -> dict[str, float]:
    """((source, weight), ...) as a dict.

    Raises:
      InputError: these are no such pairs, a weight is not a finite number, or a source is named twice.
    """
    try:
        pairs = list(weights.items() if isinstance(weights, dict) else [(s, w) for s, w in weights])
        found = dict(pairs)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {described(weights)}; give pairs, such as (('dead_leaves', 0.8),).") from error
    numbers_only = all(
        isinstance(w, numbers.Real) and not isinstance(w, bool) and math.isfinite(w) for w in found.values()
    )
    if len(found) < len(pairs) or not numbers_only:
        raise InputError(f"{name} is {described(weights)}; give each source once, with a finite number.")
    return found


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
