"""Random defenses: noise added to the features, or dropped values. Each example is processed independently.

Every function is `(params, key, features [B, ...], strength) -> what the server receives [B, ...]`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.typing import Array

Features = Float[Array, "B *f"]


def gaussian(params: dict[str, Array], key: Array, features: Features, strength: Array) -> Features:
    """Gaussian noise; `strength` is its standard deviation in units of the example's own."""
    return features + strength * deviation(features) * jax.random.normal(key, features.shape)


def laplace(params: dict[str, Array], key: Array, features: Features, strength: Array) -> Features:
    """Laplace noise; `strength` is its scale in units of the example's standard deviation."""
    return features + strength * deviation(features) * jax.random.laplace(key, features.shape)


def dropout(params: dict[str, Array], key: Array, features: Features, strength: Array) -> Features:
    """Each value is zero with probability `strength` (He et al., ACSAC 2019), not rescaled."""
    return features * jax.random.bernoulli(key, 1 - strength, features.shape)


def dropout_marked(params: dict[str, Array], key: Array, features: Features, strength: Array) -> Features:
    """`dropout` whose payload marks dropped values, as a sparse one with positions does: they arrive as -0.0.

    To the server these are zeros like others. The attacker knows the mask, and that other zeros are true.
    """
    return jnp.where(jax.random.bernoulli(key, 1 - strength, features.shape), features + 0.0, -0.0)


def unchanged(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """Zero-mean noise: the expected features are unchanged."""
    return features


def where_sent(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """Dropout: a received zero may have been dropped, so it is not compared; the rest arrived unchanged."""
    if received is None:
        return features * (1 - strength**num_queries)
    return jnp.where(received != 0, features, 0.0)


def where_marked(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """Dropout with a known mask: dropped values are not compared, received zeros are."""
    if received is None:
        return features * (1 - strength**num_queries)
    return jnp.where(_left_out(received), 0.0, features)


def mean(several: list[Features]) -> Features:
    """An attacker's combination of several queries through zero-mean noise: their mean."""
    return sum(several) / len(several)


def any_that_arrived(several: list[Features]) -> Features:
    """An attacker's combination of several queries through dropout: the value that one of them kept."""
    return functools.reduce(lambda a, b: jnp.where(jnp.abs(a) >= jnp.abs(b), a, b), several)


def any_that_is_marked_as_sent(several: list[Features]) -> Features:
    """The same with known masks; -0.0 where no query kept the value."""
    return functools.reduce(lambda a, b: jnp.where(_left_out(a), b, a), several)


def _left_out(received):
    return (received == 0) & jnp.signbit(received)


def deviation(features: Features) -> Float[Array, "B *ones"]:
    """Each example's standard deviation, [B, 1, ...]: a device sees no other example."""
    return jnp.std(features, tuple(range(1, features.ndim)), keepdims=True)
