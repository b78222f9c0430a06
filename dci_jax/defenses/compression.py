"""Defenses that save bytes: coarser values, fewer values, fewer channels, JPEG. Each example on its own.

Every function is `(params, key, features [B, ...], strength) -> what the server receives [B, ...]`.
"""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

Array = jax.Array


def none(params: None, key: Array, features: Array, strength: Array) -> Array:
    """The features as they are."""
    return features


def quantize(params: None, key: Array, features: Array, strength: Array) -> Array:
    """Uniform quantisation of each example's range to `strength` bits."""
    axes = tuple(range(1, features.ndim))
    low = jnp.min(features, axes, keepdims=True)
    span = jnp.max(features, axes, keepdims=True) - low + 1e-12
    levels = 2.0**strength - 1
    return jnp.round((features - low) / span * levels) / levels * span + low


def topk(params: None, key: Array, features: Array, strength: Array) -> Array:
    """The share `strength` of each example's values that are largest in magnitude; the others become zero."""
    size = jnp.abs(features).reshape(len(features), -1)
    threshold = jnp.quantile(size, 1 - strength, axis=1)
    return features * (size >= threshold[:, None]).reshape(features.shape)


def topk_channels(params: None, key: Array, features: Array, strength: Array) -> Array:
    """The share `strength` of each example's channels that have the most energy; the others become zero."""
    energy = jnp.sum(features**2, tuple(range(1, features.ndim - 1)))
    threshold = jnp.quantile(energy, 1 - strength, axis=1)
    kept = energy >= threshold[:, None]
    return features * kept.reshape(len(features), *(1,) * (features.ndim - 2), -1)


def straight_through(send):
    """What the server receives, with the gradient of the features themselves, for attackers who compute with it."""

    def expected(params, features: Array, strength: Array, received: Array | None, sends: int) -> Array:
        found = send(params, None, jax.lax.stop_gradient(features), strength)
        return features + jax.lax.stop_gradient(found - features)

    return expected


def as_sent(send):
    """What the server receives, with a gradient of its own: zero where nothing is sent."""

    def expected(params, features: Array, strength: Array, received: Array | None, sends: int) -> Array:
        return send(params, None, features, strength)

    return expected


def jpeg(params: None, key: Array, features: Array, strength: Array) -> Array:
    """Channels side by side as one grey picture of 8 bits, through Pillow's JPEG at quality `strength`.

    The range of each example is sent along. As in lossy feature codecs such as Choi & Bajić, ICIP 2018.
    """
    shape = jax.ShapeDtypeStruct(features.shape, jnp.float32)
    return jax.pure_callback(_through_jpeg, shape, features, strength, vmap_method="sequential")


def jpeg_bytes(features: np.ndarray, strength: float) -> int:
    """Size of one example [...] as `jpeg` sends it, with the 8 bytes of its range."""
    return len(_encoded(*_mosaic(features)[0], strength)) + 8


def _through_jpeg(features, strength):
    return np.stack([_decoded(np.asarray(example), float(strength)) for example in features]).astype(np.float32)


def _decoded(example, strength):
    (pixels,), (low, span), shape = _mosaic(example)
    again = np.asarray(Image.open(io.BytesIO(_encoded(pixels, strength))), np.float32) / 255 * span + low
    rows, columns, height, width, channels = shape
    tiles = again.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(-1, height, width)
    return tiles[:channels].transpose(1, 2, 0).reshape(example.shape)


def _mosaic(example):
    """((uint8 picture,), (low, span), (rows, columns, height, width, channels)) of one example [..., C]."""
    maps = example.reshape(1, 1, -1) if example.ndim == 1 else example
    height, width, channels = maps.shape
    low, span = float(maps.min()), float(np.ptp(maps)) + 1e-12
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    tiles = np.zeros((rows * columns, height, width), np.float32)
    tiles[:channels] = ((maps - low) / span).transpose(2, 0, 1)
    picture = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, -1)
    return (np.uint8(np.round(picture * 255)),), (low, span), (rows, columns, height, width, channels)


def _encoded(pixels, strength):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=round(strength))
    return stream.getvalue()
