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
    of_leaf, of_image, ground, exposure, (_, white) = _numbers(
        key, count, (leaves, 11 + channels), (2,), (2 + channels,), (2 + channels,), (height, width, 1 + channels)
    )
    u, _, angle, square, y, x, _, _, grain = jnp.moveaxis(of_leaf[0][..., :9], 2, 0)
    _, aspect, _, _, _, _, shade_y, shade_x, _ = jnp.moveaxis(of_leaf[1][..., :9], 2, 0)
    # Radii with density r^-3 between two pixels and the whole image, large ones painted first.
    low, high = 1.5, 0.6 * max(height, width)
    radius = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    radius = jnp.where(jnp.arange(leaves) < leaves // 8, high * (0.3 + 0.7 * u), radius)
    elongation = jnp.exp(0.25 * aspect)
    geometry = (
        radius * elongation,
        radius / elongation,
        jnp.cos(jnp.pi * angle),
        jnp.sin(jnp.pi * angle),
        height * y,
        width * x,
        0.25 * shade_y / max(height, width),
        0.25 * shade_x / max(height, width),
        square < 0.4,
        0.12 * _exponential(grain),
    )
    leaf = jnp.concatenate([jnp.stack(geometry, -1), _colors(of_leaf[0][..., 9:], of_leaf[1][..., 9:])], -1)
    leaf = jax.lax.optimization_barrier(jnp.moveaxis(leaf, 1, 0))  # [leaves, count, 10 + C]
    softness, number = jnp.moveaxis(of_image[0], 1, 0)[..., None, None]
    softness = 0.7 + 1.8 * softness
    # From a few large shapes to a thicket: leaves past an image's own number are not painted.
    number = leaves ** (0.4 + 0.6 * number)
    texture = _spectral_noise(white, 1.0)
    rows, columns = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")

    def paint(i, canvas):
        a, b, cos, sin, middle_y, middle_x, shade_y, shade_x, square, grain = jnp.moveaxis(leaf[i, :, :10], 1, 0)[
            ..., None, None
        ]
        y, x = rows - middle_y, columns - middle_x
        along, across = (cos * x + sin * y) / a, (cos * y - sin * x) / b
        box = jnp.maximum(jnp.abs(along), jnp.abs(across))
        ring = jnp.sqrt(along**2 + across**2)
        inside = (1 - jnp.where(square > 0, box, ring)) * jnp.minimum(a, b)
        cover = jnp.clip(inside / softness + 0.5, 0, 1) * (i < number)
        light = (shade_y * y + shade_x * x)[..., None]
        shade = leaf[i, :, None, None, 10:] + light + grain[..., None] * texture
        return canvas + cover[..., None] * (shade - canvas)

    images = jax.lax.fori_loop(0, leaves, paint, _colors(*ground)[:, None, None] + 0.1 * texture)
    return _expose(*exposure, images)


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
    (slope, _), exposure, (_, white) = _numbers(key, count, (1, 1, 1), (2 + channels,), (height, width, 1 + channels))
    return _expose(*exposure, 0.5 + 0.35 * _spectral_noise(white, 0.7 + 1.3 * slope))


def white_noise(key: Array, count: int, shape: tuple[int, ...]) -> Float[Array, "count *x"]:
    """Independent uniform pixels: the baseline that carries no image statistics. [count, ...] in [0, 1]."""
    return jax.random.uniform(key, (count, *shape))


def _numbers(key, count, *shapes):
    """Random numbers, one pair of arrays [count, *shape] for each shape: uniform in [0, 1), and the same made normal.

    One draw for all, and one inverse of the error function, each of which takes the compiler as long as all the rest.
    """
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    uniform = jax.random.uniform(key, (count, ends[-1]))
    normal = math.sqrt(2) * jax.lax.erf_inv(2 * jnp.maximum(uniform, 2**-24) - 1)
    parts = (jnp.split(numbers, ends[:-1], 1) for numbers in jax.lax.optimization_barrier((uniform, normal)))
    return [
        tuple(a.reshape(count, *shape) for a in pair)
        for pair, shape in zip(zip(*parts, strict=True), shapes, strict=True)
    ]


def _exponential(uniform):
    """Exponential numbers, of mean 1, from uniform ones in [0, 1)."""
    return -jnp.log1p(-uniform)


def _expose(uniform, normal, images):
    """Each image with a brightness, a tint and a contrast of its own, clipped to [0, 1]; from numbers [count, 2 + C]."""
    contrast = uniform[:, None, None, :1]
    _, shift, tint = jnp.split(normal[:, None, None], (1, 2), -1)
    shift = 0.5 + 0.15 * shift
    return jnp.clip(shift + 0.05 * tint + (0.3 + 0.7 * contrast) * (images - 0.5), 0, 1)


def _colors(uniform, normal):
    """Random colours [..., C] from numbers [..., 2 + C]: brightness spread widely, chroma little, as in photographs."""
    light, saturation = uniform[..., :1], uniform[..., 1:2]
    return 1.1 * light - 0.05 + 0.1 * _exponential(saturation) * normal[..., 2:]


def _spectral_noise(white, slope):
    """Noise with amplitude 1 / f^slope, [count, H, W, C], zero mean, unit variance; channels correlated.

    Args:
      white: normal numbers [count, H, W, 1 + C].
      slope: a number, or one for each image.
    """
    height, width = white.shape[1:3]
    white = white[..., :1] + 0.4 * white[..., 1:]
    fy, fx = jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width)[None]
    frequency = jnp.sqrt(fy**2 + fx**2).at[0, 0].set(1.0)[..., None]
    gain = (frequency ** -jnp.asarray(slope, jnp.float32)).at[..., 0, 0, :].set(0.0)
    noise = jnp.fft.irfft2(jnp.fft.rfft2(white, axes=(1, 2)) * gain, (height, width), axes=(1, 2))
    return noise / jnp.std(noise, (1, 2, 3), keepdims=True)


# What a config names; each is (key, count, shape) -> images [count, H, W, C] in [0, 1].
GENERATORS = {"dead_leaves": dead_leaves, "pink_noise": pink_noise, "white_noise": white_noise}
