"""What an attacker who knows a defense compares his guess with, once he has what arrived.

Every function is a `Defense.expected`: `(params, features [B, ...], strength, received [B, ...] or None, num_queries) -> [B, ...]`.
Without `received` it is what arrives on average. With it, it is `received` + a residual that is 0 where the guess may have
given what arrived and grows linearly from there, so that what a defense left open pulls the guess nowhere.

Behind rounding (quantisation, JPEG, a bottleneck's 8 bits) such a residual reconstructs less than rounding the guess, too,
with straight-through gradients, which is what these defenses expect: a guess that stops at a cell's edge is the worst in it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.defenses import compression
from dci_jax.typing import Array

Features = Float[Array, "B *f"]


def weighed(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """`learned.learned_noise`: each residual over the scale of its noise; the weights' mean square is 1."""
    if received is None:
        return features
    weight = jnp.exp(jnp.min(params["scale"]) - params["scale"])
    return received + weight / jnp.sqrt(jnp.mean(weight**2)) * (features - received)


def below_the_kept(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """`compression.topk`: a value that was left out is at most as large as the smallest that arrived."""
    if received is None:
        return compression.topk(params, None, features, strength)
    size = jnp.abs(received).reshape(len(received), -1)
    most = _most(size, strength).reshape(-1, *(1,) * (received.ndim - 1))
    return received + jnp.where(received != 0, features - received, _beyond(features, -most, most))


def below_the_kept_channels(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, num_queries: Array
) -> Features:
    """`compression.topk_channels`: a channel that was left out has at most the energy of the weakest that arrived."""
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
    """What `size` [B, n] of something left out can be, [B]: that of the smallest kept; 0 where fewer than the share were not 0."""
    count = size.shape[1]
    kept = count - jnp.ceil((count - 1) * (1 - strength) + 0.5)  # or one more, by rounding
    least = jnp.min(jnp.where(size > 0, size, jnp.inf), 1)
    return jnp.where(jnp.sum(size > 0, 1) < kept, 0.0, least)
