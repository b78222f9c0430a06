"""A linear filter of whole images: what each octave of spatial frequency gives to each colour.

By the cosine transform (DCT-II), which takes an image as mirrored at its borders, so that nothing wraps around. The
frequencies of `NODES` and the mean of an image have a matrix of colours each; between nodes they are interpolated
along the logarithm of the frequency, the same at every size of image.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.typing import Array

NODES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # cycles per pixel; below and above them the nearest counts
BANDS = 1 + len(NODES)  # the first is that of an image's mean


def identity(channels: int) -> np.ndarray:
    """The bands that change nothing, float32 [7, C, C]."""
    return np.tile(np.eye(channels, dtype=np.float32), (BANDS, 1, 1))


def halved(channels: int) -> np.ndarray:
    """Those that leave colours at half the resolution, float32 [7, C, C]; brightness stays.

    The mean of two pixels, shown twice, leaves cos(pi f)^2 of a wave.
    """
    grey, left = np.full((channels, channels), 1 / channels), np.cos(np.pi * np.array((0, *NODES))) ** 2
    return np.float32(grey + left[:, None, None] * (np.eye(channels) - grey))


def filtered(
    images: Float[Array, "B H W C"], bands: Float[Array, "7 C C"], shift: Float[Array, "C"]
) -> Float[Array, "B H W C"]:
    """Filter images in [0, 1] about mid-grey, and shift their colours.

    Args:
      images: in [0, 1].
      bands: of the mean and of each of `NODES`, the matrix that multiplies the coefficients' colours.
      shift: is added to all pixels.

    Returns:
      Images cut to [0, 1].
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
    """How much of each band every coefficient takes, [height, width, bands], sums of one."""
    frequency = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width))
    numbers = np.arange(len(NODES))
    place = np.interp(np.log(np.maximum(frequency, NODES[0] / 2)), np.log(NODES), numbers)
    shares = np.concatenate([np.zeros((height, width, 1)), np.maximum(0, 1 - abs(place[..., None] - numbers))], -1)
    shares[0, 0] = np.eye(BANDS)[0]
    return np.float32(shares)
