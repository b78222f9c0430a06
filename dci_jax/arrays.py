"""Check the arrays that users give: features are floats, images are floats in [0, 1]."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError
from dci_jax.typing import Array

OVERSHOOT = 0.2  # of images that were resized


def dtype_of(x: Any) -> Any:
    """The type of an array's numbers; None for what is no array, or one of another library."""
    if not (hasattr(x, "shape") and hasattr(x, "ndim") and hasattr(x, "dtype")):
        return None
    try:
        return np.dtype(x.dtype)
    except TypeError:
        return None


def as_features(features: Any) -> Array:
    """Received features as a float32 array.

    Raises:
      InputError: it is no array of floats, empty, or a number is not finite (outside of `jit`, on one host).
    """
    if isinstance(features, list | tuple):
        try:
            features = np.asarray(features)
        except ValueError as error:
            raise InputError(
                f"features is a {type(features).__name__}; give an array of floats [B, h, w, c]."
            ) from error
    kind = dtype_of(features)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        what = f"a {type(features).__name__}" if kind is None else f"an array of {kind}"
        raise InputError(
            f"features is {what}; give an array of floats [B, h, w, c], quantized features as the numbers they stand for."
        )
    if features.ndim and not len(features):
        raise InputError("features is an array of no example; give at least one.")
    with jax.ensure_compile_time_eval():
        if _known(features) and not bool(jnp.isfinite(features).all()):
            raise InputError("The features are not all finite; remove the examples with NaN or infinite values.")
    return jnp.asarray(features, jnp.float32)


def check_floats(x: Any, name: str) -> None:
    """Raise InputError unless x is an array of floats."""
    kind = dtype_of(x)
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        found = f"a {type(x).__name__}" if kind is None else f"an array of {kind}"
        raise InputError(f"{name} is {found}; give an array of floats, such as pixels / 255 for images.")


def check_range(x: Array, name: str, margin: float = OVERSHOOT) -> None:
    """Raise InputError for no image at all, and for images outside of [0, 1] by more than `margin`, or not finite (outside of `jit`, on one host)."""
    if x.ndim and not len(x):
        raise InputError(f"{name} is an array of no input; give at least one.")
    if not _known(x):
        return
    with jax.ensure_compile_time_eval():
        low, high = float(jnp.min(x, initial=0.0)), float(jnp.max(x, initial=0.0))
    if not math.isfinite(high - low):
        raise InputError(f"{name} is not finite everywhere; remove NaN and infinite values.")
    if not -margin <= low <= high <= 1 + margin:
        raise InputError(f"{name} is from {low:.4g} to {high:.4g}; give images in [0, 1], which networks normalize.")


def _known(x):
    return not isinstance(x, jax.core.Tracer) and getattr(x, "is_fully_addressable", True)
