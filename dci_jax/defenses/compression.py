"""Defenses that save bytes: coarser values, fewer values, fewer channels, JPEG. Each example is processed independently.

Every function is `(params, key, features [B, ...], strength) -> what the server receives [B, ...]`.
"""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image

from dci_jax.typing import Array

Features = Float[Array, "B *f"]

# JPEG's 8-point cosine transform, rows are frequencies, and its luminance table (ITU-T T.81, annex K).
_PLACE = np.arange(8)
_DCT = np.float32(np.cos((2 * _PLACE + 1) * _PLACE[:, None] * np.pi / 16) * np.where(_PLACE, 0.5, 0.125**0.5)[:, None])
_LUMINANCE = np.float32(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def none(params: dict[str, Array], key: Array | None, features: Features, strength: Array) -> Features:
    """The features as they are."""
    return features


def quantize(params: dict[str, Array], key: Array | None, features: Features, strength: Array) -> Features:
    """Uniform quantisation of each example's range to `strength` bits."""
    axes = tuple(range(1, features.ndim))
    low = jnp.min(features, axes, keepdims=True)
    span = jnp.max(features, axes, keepdims=True) - low + 1e-12
    levels = 2.0**strength - 1
    return jnp.round((features - low) / span * levels) / levels * span + low


def topk(params: dict[str, Array], key: Array | None, features: Features, strength: Array) -> Features:
    """The share `strength` of each example's values that are largest in magnitude; the others become zero."""
    size = jnp.abs(features).reshape(len(features), -1)
    threshold = jnp.quantile(size, 1 - strength, axis=1)
    return features * (size >= threshold[:, None]).reshape(features.shape)


def topk_channels(params: dict[str, Array], key: Array | None, features: Features, strength: Array) -> Features:
    """The share `strength` of each example's channels that have the most energy; the others become zero."""
    energy = jnp.sum(features**2, tuple(range(1, features.ndim - 1)))
    threshold = jnp.quantile(energy, 1 - strength, axis=1)
    kept = energy >= threshold[:, None]
    return features * kept.reshape(len(features), *(1,) * (features.ndim - 2), -1)


def straight_through(send):
    """What the server receives, with straight-through gradients, for attackers who differentiate it."""

    def expected(
        params, features: Features, strength: Array | float, received: Features | None, num_queries: Array | float
    ) -> Features:
        found = send(params, None, jax.lax.stop_gradient(features), strength)
        return features + jax.lax.stop_gradient(found - features)

    return expected


def as_sent(send):
    """What the server receives, with its true gradient: zero where nothing is sent."""

    def expected(
        params, features: Features, strength: Array | float, received: Features | None, num_queries: Array | float
    ) -> Features:
        return send(params, None, features, strength)

    return expected


def jpeg(params: dict[str, Array], key: Array | None, features: Features, strength: Array) -> Features:
    """Tile the channels into one 8-bit grey picture and compress it by JPEG at quality `strength`.

    As in feature codecs such as Choi & Bajić, ICIP 2018; each example's range is sent along. Block transform and table
    are libjpeg's, implemented here so that they compile and run on the device; tests compare with Pillow.
    """
    picture, low, span = _mosaic(features)
    height, width = picture.shape[1:]
    padded = jnp.pad(picture, ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge") - 128
    blocks = padded.reshape(len(padded), padded.shape[1] // 8, 8, padded.shape[2] // 8, 8)
    scale = jnp.where(strength < 50, 5000 / strength, 200 - 2 * strength)
    table = jnp.clip(jnp.floor((_LUMINANCE * scale + 50) / 100), 1, 255)[:, None]
    coefficients = jnp.einsum("ui,byixj,vj->byuxv", _DCT, blocks, _DCT)
    kept = jnp.round(coefficients / table) * table
    again = jnp.einsum("ui,byuxv,vj->byixj", _DCT, kept, _DCT).reshape(padded.shape) + 128
    again = jnp.clip(jnp.round(again), 0, 255)[:, :height, :width] / 255
    return _maps(again, features.shape) * span + low


def jpeg_picture(params: dict[str, Array], features: Features, strength: Array | float) -> Float[Array, "B h w"]:
    """The picture that `jpeg` sends, before it is compressed: [B, H, W], whole numbers from 0 to 255."""
    return _mosaic(features)[0]


def jpeg_bytes(picture: np.ndarray, strength: float) -> int:
    """Size of a picture [H, W] as Pillow's JPEG at this quality, with the 8 bytes of its range."""
    stream = io.BytesIO()
    Image.fromarray(np.uint8(picture)).save(stream, "JPEG", quality=round(float(strength)))
    return len(stream.getvalue()) + 8


def _mosaic(features):
    """([B, rows height, columns width] in 0 ... 255, low, span) of features [B, ..., C]; a vector is a row of pixels."""
    count, channels = len(features), features.shape[-1]
    height, width = features.shape[1:3] if features.ndim == 4 else (1, 1)
    axes = tuple(range(1, features.ndim))
    low = jnp.min(features, axes, keepdims=True)
    span = jnp.max(features, axes, keepdims=True) - low + 1e-12
    rows, columns = _grid(channels)
    tiles = ((features - low) / span).reshape(count, height, width, channels).transpose(0, 3, 1, 2)
    tiles = jnp.pad(tiles, ((0, 0), (0, rows * columns - channels), (0, 0), (0, 0)))
    tiles = tiles.reshape(count, rows, columns, height, width).transpose(0, 1, 3, 2, 4)
    return jnp.round(tiles.reshape(count, rows * height, columns * width) * 255), low, span


def _maps(picture, shape):
    """The features [B, ..., C] of a picture in 0 ... 1."""
    count, channels = shape[0], shape[-1]
    height, width = shape[1:3] if len(shape) == 4 else (1, 1)
    rows, columns = _grid(channels)
    tiles = picture.reshape(count, rows, height, columns, width).transpose(0, 1, 3, 2, 4)
    return tiles.reshape(count, -1, height, width)[:, :channels].transpose(0, 2, 3, 1).reshape(shape)


def _grid(channels):
    columns = math.ceil(math.sqrt(channels))
    return math.ceil(channels / columns), columns
