"""Defenses that are random: noise added to the features, values left out. Each example on its own.

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
    """`dropout` whose message says what it leaves out, as a sparse one with positions does: it arrives as -0.0.

    To the server that is a zero like others. The attacker knows the mask, and that other zeros are true.
    """
    return jnp.where(jax.random.bernoulli(key, 1 - strength, features.shape), features + 0.0, -0.0)


def unchanged(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """Noise of mean zero: on average the features as they are."""
    return features


def where_sent(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """Dropout: what arrived as zero may have been left out, so it is not compared; the rest arrived as it is."""
    if received is None:
        return features * (1 - strength**num_queries)
    return jnp.where(received != 0, features, 0.0)


def where_marked(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """Dropout whose mask is known: what was left out is not compared, a zero that arrived is."""
    if received is None:
        return features * (1 - strength**num_queries)
    return jnp.where(_left_out(received), 0.0, features)


def mean(several: list[Features]) -> Features:
    """What an attacker makes of several queries through noise of mean zero."""
    return sum(several) / len(several)


def any_that_arrived(several: list[Features]) -> Features:
    """What an attacker makes of several queries through dropout: the value that one of them kept."""
    return functools.reduce(lambda a, b: jnp.where(jnp.abs(a) >= jnp.abs(b), a, b), several)


def any_that_is_marked_as_sent(several: list[Features]) -> Features:
    """The same where the masks are known; -0.0 where none of them kept the value."""
    return functools.reduce(lambda a, b: jnp.where(_left_out(a), b, a), several)


def _left_out(received):
    return (received == 0) & jnp.signbit(received)


def deviation(features: Features) -> Float[Array, "B *ones"]:
    """Each example's standard deviation, [B, 1, ...]: a device sees no other example."""
    return jnp.std(features, tuple(range(1, features.ndim)), keepdims=True)
