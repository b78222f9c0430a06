"""Inputs without data or network: an endless supply of dead leaves and 1/f noise, made on the accelerator.

Dead leaves (Lee, Mumford & Huang, IJCV 2001): opaque shapes of scale-invariant sizes that occlude one
another; with 1/f spectra they share much of the statistics of photographs (Baradad et al.,
"Learning to See by Looking at Noise", NeurIPS 2021).
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.typing import Array


def dead_leaves(key: Array, count: int, shape: tuple[int, int, int]) -> Float[Array, "count H W C"]:
    """Images of overlapping, shaded and textured ellipses and rectangles.

    Up to 90 shapes per 32 pixels of the image's side, so that large images are equally rich in detail.

    Args:
      key: PRNG key.
      count: how many images.
      shape: (H, W, C) of one image.

    Returns:
      [count, H, W, C] in [0, 1].
    """
    height, width, channels = shape
    leaves = 90 * max(1, max(height, width) // 32)
    of_leaf, of_image, ground, exposure, white = _uniform(
        key, count, (leaves, 11 + channels), (2,), (2 + channels,), (2 + channels,), (height, width, 1 + channels)
    )
    u, aspect, angle, square, y, x, shade_y, shade_x, grain = jnp.moveaxis(of_leaf[..., :9], 2, 0)
    # Radii with density r^-3 between two pixels and the whole image, large ones painted first.
    low, high = 1.5, 0.6 * max(height, width)
    radius = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    radius = jnp.where(jnp.arange(leaves) < leaves // 8, high * (0.3 + 0.7 * u), radius)
    elongation = jnp.exp(0.25 * _normal(aspect))
    leaf = {
        "a": radius * elongation,
        "b": radius / elongation,
        "angle": jnp.pi * angle,
        "square": square < 0.4,
        "y": height * y,
        "x": width * x,
        "shade_y": 0.25 * _normal(shade_y) / max(height, width),
        "shade_x": 0.25 * _normal(shade_x) / max(height, width),
        "grain": 0.12 * _exponential(grain),
        "color": _colors(of_leaf[..., 9:]),
    }
    leaf = {name: jnp.moveaxis(value, 1, 0) for name, value in leaf.items()}  # [leaves, count, ...]
    softness, number = jnp.moveaxis(of_image, 1, 0)[..., None, None]
    softness = 0.7 + 1.8 * softness
    # From a few large shapes to a thicket: leaves past an image's own number are not painted.
    number = leaves ** (0.4 + 0.6 * number)
    texture = _spectral_noise(white, 1.0)
    rows, columns = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")

    def paint(i, canvas):
        one = {name: value[i][:, None, None] for name, value in leaf.items()}
        y, x = rows - one["y"], columns - one["x"]
        cos, sin = jnp.cos(one["angle"]), jnp.sin(one["angle"])
        along, across = (cos * x + sin * y) / one["a"], (cos * y - sin * x) / one["b"]
        box = jnp.maximum(jnp.abs(along), jnp.abs(across))
        ring = jnp.sqrt(along**2 + across**2)
        inside = (1 - jnp.where(one["square"], box, ring)) * jnp.minimum(one["a"], one["b"])
        cover = jnp.clip(inside / softness + 0.5, 0, 1) * (i < number)
        light = one["shade_y"] * y + one["shade_x"] * x
        shade = one["color"] + light[..., None] + one["grain"][..., None] * texture
        return canvas + cover[..., None] * (shade - canvas)

    images = jax.lax.fori_loop(0, leaves, paint, _colors(ground)[:, None, None] + 0.1 * texture)
    return _expose(exposure, images)


def pink_noise(key: Array, count: int, shape: tuple[int, int, int]) -> Float[Array, "count H W C"]:
    """Coloured noise whose amplitude falls as 1 / f^a, with a between 0.7 and 2.

    Args:
      key: PRNG key.
      count: how many images.
      shape: (H, W, C) of one image.

    Returns:
      [count, H, W, C] in [0, 1].
    """
    height, width, channels = shape
    slope, exposure, white = _uniform(key, count, (1, 1, 1), (2 + channels,), (height, width, 1 + channels))
    return _expose(exposure, 0.5 + 0.35 * _spectral_noise(white, 0.7 + 1.3 * slope))


def white_noise(key: Array, count: int, shape: tuple[int, ...]) -> Float[Array, "count *x"]:
    """Independent uniform pixels: the baseline that carries no image statistics. [count, ...] in [0, 1]."""
    return jax.random.uniform(key, (count, *shape))


def _uniform(key, count, *shapes):
    """Independent numbers in [0, 1), one array [count, *shape] for each shape: one draw for all, which compiles once."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    numbers = jax.lax.optimization_barrier(jax.random.uniform(key, (count, ends[-1])))
    return [a.reshape(count, *shape) for a, shape in zip(jnp.split(numbers, ends[:-1], 1), shapes, strict=True)]


def _normal(uniform):
    """Normal numbers from uniform ones in [0, 1)."""
    return math.sqrt(2) * jax.lax.erf_inv(2 * jnp.maximum(uniform, 2**-24) - 1)


def _exponential(uniform):
    """Exponential numbers, of mean 1, from uniform ones in [0, 1)."""
    return -jnp.log1p(-uniform)


def _expose(uniform, images):
    """Each image with a brightness, a tint and a contrast of its own, clipped to [0, 1]; from numbers [count, 2 + C]."""
    contrast, shift, tint = jnp.split(uniform[:, None, None], (1, 2), -1)
    shift = 0.5 + 0.15 * _normal(shift)
    return jnp.clip(shift + 0.05 * _normal(tint) + (0.3 + 0.7 * contrast) * (images - 0.5), 0, 1)


def _colors(uniform):
    """Random colours [..., C] from numbers [..., 2 + C]: brightness spread widely, chroma little, as in photographs."""
    light, saturation, chroma = jnp.split(uniform, (1, 2), -1)
    return 1.1 * light - 0.05 + 0.1 * _exponential(saturation) * _normal(chroma)


def _spectral_noise(uniform, slope):
    """Noise with amplitude 1 / f^slope, [count, H, W, C], zero mean, unit variance; channels correlated.

    Args:
      uniform: numbers [count, H, W, 1 + C].
      slope: a number, or one for each image.
    """
    height, width = uniform.shape[1:3]
    white = _normal(uniform)
    white = white[..., :1] + 0.4 * white[..., 1:]
    fy, fx = jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width)[None]
    frequency = jnp.sqrt(fy**2 + fx**2).at[0, 0].set(1.0)[..., None]
    gain = (frequency ** -jnp.asarray(slope, jnp.float32)).at[..., 0, 0, :].set(0.0)
    noise = jnp.fft.irfft2(jnp.fft.rfft2(white, axes=(1, 2)) * gain, (height, width), axes=(1, 2))
    return noise / jnp.std(noise, (1, 2, 3), keepdims=True)


# What a config names; each is (key, count, shape) -> images [count, H, W, C] in [0, 1].
GENERATORS = {"dead_leaves": dead_leaves, "pink_noise": pink_noise, "white_noise": white_noise}
