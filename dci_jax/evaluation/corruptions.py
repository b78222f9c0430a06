"""Corruptions of images that a generator is to repair: image -> corrupted image.

A corrupted image lies off the generator's manifold; inverting and regenerating it projects it back.
"""

import dm_pix as pix
import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.typing import Array


def none(key: Array, images: Float[Array, "B H W C"], strength: float) -> Float[Array, "B H W C"]:
    """The images as they are."""
    del key, strength
    return images


def gaussian(key: Array, images: Float[Array, "B H W C"], strength: float) -> Float[Array, "B H W C"]:
    """Gaussian noise of standard deviation `strength`, in pixel units of [0, 1]."""
    return jnp.clip(images + strength * jax.random.normal(key, images.shape), 0, 1)


def blur(key: Array, images: Float[Array, "B H W C"], strength: float) -> Float[Array, "B H W C"]:
    """Gaussian blur of standard deviation `strength`, in pixels."""
    del key
    size = 2 * int(3 * strength + 0.5) + 1
    return jax.vmap(lambda image: pix.gaussian_blur(image, strength, size))(images)


def mask(key: Array, images: Float[Array, "B H W C"], strength: float) -> Float[Array, "B H W C"]:
    """A grey square somewhere in each image, its side the share `strength` of the image's."""
    count, height, width, _ = images.shape
    side = round(strength * height)
    corner = jax.random.randint(key, (count, 2), 0, jnp.array([height - side, width - side]) + 1)
    rows, columns = corner[:, :1] + jnp.arange(side), corner[:, 1:] + jnp.arange(side)
    place = jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None]
    return jnp.asarray(images).at[place].set(0.5)


def quantize(key: Array, images: Float[Array, "B H W C"], strength: float) -> Float[Array, "B H W C"]:
    """Each pixel to the nearest of 2^`strength` levels; 8 bits are what a PNG file keeps."""
    del key
    levels = 2.0**strength - 1
    return jnp.round(images * levels) / levels


# name -> (key, images [B, H, W, C] in [0, 1], strength) -> the same; each image on its own.
CORRUPTIONS = {"none": none, "gaussian": gaussian, "blur": blur, "mask": mask, "quantize": quantize}
