"""How an attacker who knows a defense models it, given the received features.

Every function is a `Defense.expected`: `(params, features [B, ...], strength, received [B, ...] or None, num_queries) -> [B, ...]`.
Without `received` it is the expected received features. With it, it is `received` + a residual that is 0 where the guess is
consistent with `received` and grows linearly from there, so that what a defense leaves open does not pull the guess.

For rounding (quantisation, JPEG, a bottleneck's 8 bits) such a residual reconstructs less than also rounding the guess, with
straight-through gradients, as these defenses do: a guess that stops at the edge of a cell is the worst in it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.defenses import compression
from dci_jax.typing import Array

Features = Float[Array, "B *f"]


def weighed(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """`learned.learned_noise`: each residual divided by its noise scale; the weights' mean square is 1."""
    if received is None:
        return features
    weight = jnp.exp(jnp.min(params["scale"]) - params["scale"])
    return received + weight / jnp.sqrt(jnp.mean(weight**2)) * (features - received)


def below_the_kept(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """`compression.topk`: a dropped value is at most as large as the smallest received one."""
    if received is None:
        return compression.topk(params, None, features, strength)
    size = jnp.abs(received).reshape(len(received), -1)
    most = _most(size, strength).reshape(-1, *(1,) * (received.ndim - 1))
    return received + jnp.where(received != 0, features - received, _beyond(features, -most, most))


def below_the_kept_channels(
    params: dict[str, Array],
    features: Features,
    strength: Array | float,
    received: Features | None,
    num_queries: Array | float,
) -> Features:
    """`compression.topk_channels`: a dropped channel has at most the energy of the weakest received one."""
    if received is None:
        return compression.topk_channels(params, None, features, strength)
    axes, ones = tuple(range(1, features.ndim - 1)), (len(features), *(1,) * (features.ndim - 2), -1)
    energy, guess = (jnp.sum(f**2, axes) for f in (received, features))
    share = jnp.sqrt(_most(energy, strength))[:, None] * jax.lax.rsqrt(jnp.maximum(guess, 1e-12))
    beyond = features * jnp.maximum(1 - share, 0).reshape(ones)
    return received + jnp.where((energy > 0).reshape(ones), features - received, beyond)


def _beyond(value, low, high):
    return value - jnp.clip(value, low, high)


def _most(size, strength):
    """Upper bound [B] of the `size` [B, n] of dropped entries: the smallest kept one; 0 if fewer than the share were nonzero."""
    count = size.shape[1]
    kept = count - jnp.ceil((count - 1) * (1 - strength) + 0.5)  # or one more, by rounding
    least = jnp.min(jnp.where(size > 0, size, jnp.inf), 1)
    return jnp.where(jnp.sum(size > 0, 1) < kept, 0.0, least)
