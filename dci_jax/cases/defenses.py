"""What a device may do to its features before it sends them: feature -> feature.

The attacks here do not adapt to a defense, so what they still read back is a lower bound.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def none(key: Array, features: Array, strength: float) -> Array:
    """The features as they are."""
    del key, strength
    return features


def gaussian(key: Array, features: Array, strength: float) -> Array:
    """Gaussian noise; `strength` is its standard deviation in units of the features' own."""
    return features + strength * _spread(features) * jax.random.normal(key, features.shape)


def laplace(key: Array, features: Array, strength: float) -> Array:
    """Laplace noise; `strength` is its scale in units of the features' standard deviation."""
    return features + strength * _spread(features) * jax.random.laplace(key, features.shape)


def dropout(key: Array, features: Array, strength: float) -> Array:
    """Each value is zero with probability `strength` (He et al., ACSAC 2019), not rescaled."""
    return features * jax.random.bernoulli(key, 1 - strength, features.shape)


def quantize(key: Array, features: Array, strength: float) -> Array:
    """Uniform quantisation of each example's range to `strength` bits."""
    del key
    axes = tuple(range(1, features.ndim))
    low = jnp.min(features, axes, keepdims=True)
    span = jnp.max(features, axes, keepdims=True) - low + 1e-12
    levels = 2.0**strength - 1
    return jnp.round((features - low) / span * levels) / levels * span + low


def prune(key: Array, features: Array, strength: float) -> Array:
    """The share `strength` of each example's values that are smallest in magnitude becomes zero."""
    del key
    size = jnp.abs(features).reshape(len(features), -1)
    threshold = jnp.quantile(size, strength, axis=1)
    return features * (size >= threshold[:, None]).reshape(features.shape)


def _spread(features):
    """Each example's standard deviation, [B, 1, ...]: a device sees no other example."""
    return jnp.std(features, tuple(range(1, features.ndim)), keepdims=True)


# name -> (key, features [B, ...], strength) -> features; each example on its own.
DEFENSES = {
    "none": none,
    "gaussian": gaussian,
    "laplace": laplace,
    "dropout": dropout,
    "quantize": quantize,
    "prune": prune,
}
