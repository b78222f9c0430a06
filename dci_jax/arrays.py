"""Arrays that users hand in: features of floats, images in [0, 1]; what is neither is one sentence."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from dci_jax.errors import InputError
from dci_jax.typing import Array

_OVERSHOOT = 0.2  # of images that were resized


def dtype_of(x: Any) -> Any:
    """The type of an array's numbers; None for what is no array."""
    return x.dtype if hasattr(x, "shape") and hasattr(x, "ndim") and hasattr(x, "dtype") else None


def as_features(features: Any) -> Array:
    """Received features as a float32 array.

    Raises:
      InputError: it is no array of numbers, or a number is not finite (seen outside of `jit`, on one host).
    """
    kind = dtype_of(features)
    if kind is None or not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        what = f"a {type(features).__name__}" if kind is None else f"an array of {kind}"
        raise InputError(f"features is {what}; give an array of floats [B, h, w, c].")
    found = jnp.asarray(features, jnp.float32)
    if _known(found) and not bool(jnp.isfinite(found).all()):
        raise InputError("The features are not all finite; remove the examples with NaN or infinite values.")
    return found


def check_floats(x: Any, what: str) -> None:
    """Raise InputError unless x is an array of floats."""
    kind = dtype_of(x)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        found = f"a {type(x).__name__}" if kind is None else kind
        raise InputError(f"The {what} are {found}; give an array of floats in [0, 1], such as pixels / 255.")


def check_range(x: Array, what: str, latent: bool = False) -> None:
    """Raise InputError for images that are not in [0, 1], or numbers that are not finite (seen outside of `jit`, on one host)."""
    if not _known(x):
        return
    low, high = float(jnp.min(x, initial=0.0)), float(jnp.max(x, initial=0.0))
    if not math.isfinite(high - low):
        raise InputError(f"The {what} are not all finite; remove NaN and infinite values.")
    if not latent and not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:
        raise InputError(
            f"The {what} are from {low:.4g} to {high:.4g}; give images in [0, 1]: networks normalize them."
        )


def _known(x):
    return not isinstance(x, jax.core.Tracer) and getattr(x, "is_fully_addressable", True)
