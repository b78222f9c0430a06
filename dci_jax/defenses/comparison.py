"""What an attacker who knows a defense compares his guess with, once he has what arrived.

Every function is a `Defense.expected`: `(params, features [B, ...], strength, received [B, ...] or None, sends) -> [B, ...]`.
Without `received` it is what arrives on average. With it, it is `received` + a residual that is 0 where the guess may have
given what arrived and grows linearly from there, so that what a defense left open pulls the guess nowhere.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.defenses import compression, learned

Array = jax.Array | np.ndarray
Features = Float[Array, "B *f"]

_ROUNDED = 0.5  # a picture's values were rounded before they were transformed: a coefficient's cell is so much wider


def weighed(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`learned.learned_noise`: each residual over the scale of its noise; the weights' mean square is 1."""
    if received is None:
        return features
    weight = jnp.exp(jnp.min(params["scale"]) - params["scale"])
    return received + weight / jnp.sqrt(jnp.mean(weight**2)) * (features - received)


def in_cells(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`compression.quantize`: a value lies within half a step of what arrived, and in the range that arrived."""
    if received is None:
        return compression.straight_through(compression.quantize)(params, features, strength, received, sends)
    low, high = _range(received)
    half = (high - low) / (2.0**strength - 1) / 2
    return received + _beyond(features, jnp.maximum(received - half, low), jnp.minimum(received + half, high))


def in_narrow_cells(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`learned.bottleneck`: the same between its two layers, where the values are rounded."""
    if received is None:
        return learned.bottleneck(params, None, features, strength)
    sent = (received - params["bias"]) @ jnp.linalg.pinv(params["up"])
    guess = (features - params["bias"]) @ params["down"]
    low, high = _range(sent)
    half = (high - low) / learned.LEVELS / 2
    return received + _beyond(guess, sent - half, sent + half) @ params["up"]


def below_the_kept(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`compression.topk`: a value that was left out is at most as large as the smallest that arrived."""
    if received is None:
        return compression.topk(params, None, features, strength)
    size = jnp.abs(received).reshape(len(received), -1)
    most = _most(size, strength).reshape(-1, *(1,) * (received.ndim - 1))
    return received + jnp.where(received != 0, features - received, _beyond(features, -most, most))


def below_the_kept_channels(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`compression.topk_channels`: a channel that was left out has at most the energy of the weakest that arrived."""
    if received is None:
        return compression.topk_channels(params, None, features, strength)
    axes, ones = tuple(range(1, features.ndim - 1)), (len(features), *(1,) * (features.ndim - 2), -1)
    energy, guess = (jnp.sum(f**2, axes) for f in (received, features))
    share = jnp.sqrt(_most(energy, strength))[:, None] * jax.lax.rsqrt(jnp.maximum(guess, 1e-12))
    beyond = features * jnp.maximum(1 - share, 0).reshape(ones)
    return received + jnp.where((energy > 0).reshape(ones), features - received, beyond)


def in_coefficients_cells(
    params: dict[str, Array], features: Features, strength: Array | float, received: Features | None, sends: Array
) -> Features:
    """`compression.jpeg`: a coefficient lies within half a step of the table of what arrived.

    The range that was sent along is taken from what arrived, of which JPEG gives nearly all.
    """
    if received is None:
        return compression.straight_through(compression.jpeg)(params, features, strength, received, sends)
    low, high = _range(received)
    span = high - low + 1e-12
    sent, guess = (compression.dct(255 * compression.mosaic((f - low) / span)) for f in (received, features))
    half = compression.table(strength) / 2 + _ROUNDED
    beyond = compression.inverse_dct(_beyond(guess, sent - half, sent + half), features.shape)
    return received + compression.maps(beyond, features.shape) / 255 * span


def _beyond(value, low, high):
    return value - jnp.clip(value, low, high)


def _range(received):
    axes = tuple(range(1, received.ndim))
    return jnp.min(received, axes, keepdims=True), jnp.max(received, axes, keepdims=True)


def _most(size, strength):
    """What `size` [B, n] of something left out can be, [B]: that of the smallest kept; 0 where fewer than the share were not 0."""
    count = size.shape[1]
    kept = count - jnp.ceil((count - 1) * (1 - strength) + 0.5)  # or one more, by rounding
    least = jnp.min(jnp.where(size > 0, size, jnp.inf), 1)
    return jnp.where(jnp.sum(size > 0, 1) < kept, 0.0, least)
