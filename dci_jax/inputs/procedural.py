"""Inputs without data or network: dead leaves and 1/f noise, made on the accelerator, endless.

Dead leaves (Lee, Mumford & Huang, IJCV 2001): opaque shapes of scale-invariant sizes that hide one
another; with 1/f spectra they share much of the statistics of photographs (Baradad et al.,
"Learning to See by Looking at Noise", NeurIPS 2021).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Array = jax.Array | np.ndarray


def dead_leaves(key: Array, count: int, shape: tuple[int, int, int]) -> Float[Array, "count H W C"]:
    """Images of overlapping, shaded and textured ellipses and rectangles.

    Up to 90 of them per 32 pixels of the image's side, so that large images are as rich in detail.

    Args:
      key: PRNG key.
      count: how many images.
      shape: (H, W, C) of one image.

    Returns:
      [count, H, W, C] in [0, 1].
    """
    height, width, channels = shape
    leaves = 90 * max(1, max(height, width) // 32)
    keys = jax.random.split(key, 13)
    each = (leaves, count)
    # Radii with density r^-3 between two pixels and the whole image, large ones painted first.
    low, high = 1.5, 0.6 * max(height, width)
    u = jax.random.uniform(keys[0], each)
    radius = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    radius = jnp.where(jnp.arange(leaves)[:, None] < leaves // 8, high * (0.3 + 0.7 * u), radius)
    aspect = jnp.exp(0.5 * jax.random.normal(keys[1], each))
    angle = jnp.pi * jax.random.uniform(keys[2], each)
    center = jax.random.uniform(keys[3], (*each, 2)) * jnp.array([height, width])
    square = jax.random.bernoulli(keys[4], 0.4, each)
    color = _colors(keys[5], each, channels)
    shading = 0.25 * jax.random.normal(keys[6], (*each, 2)) / max(height, width)
    grain = 0.12 * jax.random.exponential(keys[7], each)
    softness = jax.random.uniform(keys[8], (count, 1, 1), minval=0.7, maxval=2.5)
    # From a few large shapes to a thicket: leaves past an image's own number are not painted.
    number = leaves ** jax.random.uniform(keys[11], (count, 1, 1), minval=0.4)
    texture = _spectral_noise(keys[9], count, (height, width, channels), 1.0)
    rows, columns = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")

    def paint(i, canvas):
        def spread(value):
            return value[i][:, None, None]

        y, x = rows - spread(center[..., 0]), columns - spread(center[..., 1])
        cos, sin = jnp.cos(spread(angle)), jnp.sin(spread(angle))
        a, b = spread(radius * jnp.sqrt(aspect)), spread(radius / jnp.sqrt(aspect))
        along, across = (cos * x + sin * y) / a, (cos * y - sin * x) / b
        box = jnp.maximum(jnp.abs(along), jnp.abs(across))
        ring = jnp.sqrt(along**2 + across**2)
        inside = (1 - jnp.where(spread(square), box, ring)) * jnp.minimum(a, b)
        cover = jnp.clip(inside / softness + 0.5, 0, 1) * (i < number)
        light = spread(shading[..., 0]) * y + spread(shading[..., 1]) * x
        leaf = color[i][:, None, None] + light[..., None] + spread(grain)[..., None] * texture
        return canvas + cover[..., None] * (leaf - canvas)

    ground = _colors(keys[10], (count,), channels)[:, None, None] + 0.1 * texture
    images = jax.lax.fori_loop(0, leaves, paint, ground)
    return _expose(keys[12], images)


def pink_noise(key: Array, count: int, shape: tuple[int, int, int]) -> Float[Array, "count H W C"]:
    """Coloured noise whose amplitude falls as 1 / f^a, with a between 0.7 and 2.

    Args:
      key: PRNG key.
      count: how many images.
      shape: (H, W, C) of one image.

    Returns:
      [count, H, W, C] in [0, 1].
    """
    keys = jax.random.split(key, 3)
    slope = jax.random.uniform(keys[0], (count, 1, 1, 1), minval=0.7, maxval=2.0)
    noise = _spectral_noise(keys[1], count, shape, slope)
    return _expose(keys[2], 0.5 + 0.35 * noise)


def white_noise(key: Array, count: int, shape: tuple[int, ...]) -> Float[Array, "count *x"]:
    """Independent uniform pixels: the baseline that carries no image statistics. [count, ...] in [0, 1]."""
    return jax.random.uniform(key, (count, *shape))


def _expose(key, images):
    """Each image with a brightness, a tint and a contrast of its own, clipped to [0, 1]."""
    key_contrast, key_shift, key_tint = jax.random.split(key, 3)
    count, channels = images.shape[0], images.shape[-1]
    contrast = jax.random.uniform(key_contrast, (count, 1, 1, 1), minval=0.3, maxval=1.0)
    shift = 0.5 + 0.15 * jax.random.normal(key_shift, (count, 1, 1, 1))
    tint = 0.05 * jax.random.normal(key_tint, (count, 1, 1, channels))
    return jnp.clip(shift + tint + contrast * (images - 0.5), 0, 1)


def _colors(key, shape, channels):
    """Random colours [..., channels]: brightness spread widely, chroma little, as in photographs."""
    key_light, key_chroma, key_saturation = jax.random.split(key, 3)
    light = jax.random.uniform(key_light, (*shape, 1), minval=-0.05, maxval=1.05)
    saturation = 0.1 * jax.random.exponential(key_saturation, (*shape, 1))
    return light + saturation * jax.random.normal(key_chroma, (*shape, channels))


def _spectral_noise(key, count, shape, slope):
    """Noise with amplitude 1 / f^slope, [count, H, W, C], zero mean, unit variance; channels correlated."""
    height, width, channels = shape
    key_shared, key_own = jax.random.split(key)
    shared = jax.random.normal(key_shared, (count, height, width, 1))
    white = shared + 0.4 * jax.random.normal(key_own, (count, height, width, channels))
    fy, fx = jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width)[None]
    frequency = jnp.sqrt(fy**2 + fx**2).at[0, 0].set(1.0)[..., None]
    gain = (frequency ** -jnp.asarray(slope, jnp.float32)).at[..., 0, 0, :].set(0.0)
    noise = jnp.fft.irfft2(jnp.fft.rfft2(white, axes=(1, 2)) * gain, (height, width), axes=(1, 2))
    return noise / jnp.std(noise, (1, 2, 3), keepdims=True)


# What a config names; each is (key, count, shape) -> images [count, H, W, C] in [0, 1].
GENERATORS = {"dead_leaves": dead_leaves, "pink_noise": pink_noise, "white_noise": white_noise}
