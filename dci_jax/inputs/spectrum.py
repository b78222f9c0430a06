"""A linear filter of whole images: a matrix of colours for each octave of spatial frequency.

It uses the cosine transform (DCT-II), which mirrors an image at its borders, so that nothing wraps around. The
frequencies of `NODES` and the mean of an image have a matrix of colours each; between nodes they are interpolated
in log frequency, identically for every image size.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.typing import Array

NODES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # cycles per pixel; below and above them the nearest is used
BANDS = 1 + len(NODES)  # the first is that of an image's mean


def identity(channels: int) -> np.ndarray:
    """The bands that change nothing, float32 [7, C, C]."""
    return np.tile(np.eye(channels, dtype=np.float32), (BANDS, 1, 1))


def halved(channels: int) -> np.ndarray:
    """The bands that halve the resolution of colours, float32 [7, C, C]; brightness is unchanged.

    Averaging two pixels and repeating the mean scales a wave by cos(pi f)^2.
    """
    grey, left = np.full((channels, channels), 1 / channels), np.cos(np.pi * np.array((0, *NODES))) ** 2
    return np.float32(grey + left[:, None, None] * (np.eye(channels) - grey))


def filtered(
    images: Float[Array, "B H W C"], bands: Float[Array, "7 C C"], shift: Float[Array, "C"]
) -> Float[Array, "B H W C"]:
    """Filter images in [0, 1] about mid-grey, and shift their colours.

    Args:
      images: in [0, 1].
      bands: for the mean and for each of `NODES`, the matrix that multiplies the coefficients' colours.
      shift: added to all pixels.

    Returns:
      Images clipped to [0, 1].
    """
    rows, columns = _cosines(images.shape[1]), _cosines(images.shape[2])
    gains = jnp.einsum("yxk,kij->yxij", _shares(images.shape[1], images.shape[2]), bands)
    coefficients = jnp.einsum("yh,xw,nhwc->nyxc", rows, columns, images - 0.5)
    coefficients = jnp.einsum("yxij,nyxj->nyxi", gains, coefficients)
    return jnp.clip(jnp.einsum("yh,xw,nyxc->nhwc", rows, columns, coefficients) + 0.5 + shift, 0, 1)


def _cosines(size):
    """The orthonormal DCT-II [size, size]."""
    wave, place = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (place + 0.5) * wave / size)
    matrix[0] /= np.sqrt(2)
    return np.float32(matrix)


def _shares(height, width):
    """Weights of the bands in every coefficient, [height, width, bands], which sum to one."""
    frequency = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width))
    numbers = np.arange(len(NODES))
    place = np.interp(np.log(np.maximum(frequency, NODES[0] / 2)), np.log(NODES), numbers)
    shares = np.concatenate([np.zeros((height, width, 1)), np.maximum(0, 1 - abs(place[..., None] - numbers))], -1)
    shares[0, 0] = np.eye(BANDS)[0]
    return np.float32(shares)
