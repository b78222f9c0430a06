"""How close a reconstruction is: PSNR, SSIM, label agreement, latent error; one number per example."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from dci_jax.arrays import check_floats, check_range
from dci_jax.errors import InputError
from dci_jax.typing import Array


def _pair(images, truth):
    """Both as arrays; InputError unless they are floats of one shape: integers wrap around, other shapes are broadcast."""
    _check_pair(images, truth, 4, "[B, H, W, C]")
    check_range(images, "images", 10.0)
    check_range(truth, "truth")
    return jnp.asarray(images), jnp.asarray(truth)


def _check_pair(found, truth, rank, shape):
    for name, x in (("The first array", found), ("truth", truth)):
        check_floats(x, name)
    if found.ndim != rank or found.shape != truth.shape:
        raise InputError(
            f"The arrays have the shapes {list(found.shape)} and {list(truth.shape)}; give two of one shape {shape}."
        )


def mse(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Mean squared error of [B, H, W, C] in [0, 1]. Returns [B]."""
    images, truth = _pair(images, truth)
    return jnp.mean((images - truth) ** 2, (1, 2, 3))


def psnr(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Peak signal-to-noise ratio in dB, peak 1, of [B, H, W, C] in [0, 1]; at most 100. Returns [B]."""
    return -10 * jnp.log10(jnp.maximum(mse(images, truth), 1e-10))


def ssim(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Structural similarity (Wang et al., 2004) of [B, H, W, C] in [0, 1]: Gaussian window 11 x 11, sigma 1.5, where it fits
    into the image (smaller images: a smaller window), mean over pixels and channels. Returns [B] in [-1, 1]."""
    luminance, contrast = _ssim_terms(*_pair(images, truth))
    return jnp.mean(luminance * contrast, (1, 2, 3))


def _ssim_terms(images, truth):
    """(luminance, contrast times structure) at every place of the window, [B, h, w, C].

    Sums under the window are two matrix products: on a CPU 20 times as fast as convolutions of one channel.
    """
    c1, c2 = 0.01**2, 0.03**2
    down, across = (_window(images.shape[axis]) for axis in (1, 2))

    def smooth(x):
        return jnp.einsum("ih,bhwc,jw->bijc", down, x, across, precision="highest")

    a, b = smooth(images), smooth(truth)
    variance = jnp.maximum(smooth(images**2) - a**2, 0) + jnp.maximum(smooth(truth**2) - b**2, 0)
    covariance = smooth(images * truth) - a * b
    return (2 * a * b + c1) / (a**2 + b**2 + c1), (2 * covariance + c2) / (variance + c2)


@functools.cache
def _window(size: int, width: int = 11, sigma: float = 1.5) -> np.ndarray:
    """A Gaussian at every place where it fits, as a matrix [size - width + 1, size] whose rows sum to 1."""
    width = min(width, size)
    weights = np.exp(-((np.arange(width) - (width - 1) / 2) ** 2) / (2 * sigma**2))
    rows = np.zeros((size - width + 1, size))
    for i in range(len(rows)):
        rows[i, i : i + width] = weights / weights.sum()
    return np.float32(rows)


_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of the five scales, the finest first


def ms_ssim(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Multi-scale structural similarity (Wang et al., 2003) of [B, H, W, C] in [0, 1]. Returns [B] in [0, 1].

    NaN where an image is too small for the window at the coarsest of five scales: below 176 pixels.
    """
    images, truth = _pair(images, truth)
    if min(images.shape[1:3]) < 176:
        return jnp.full(len(images), jnp.nan)
    found = 1.0
    for number, weight in enumerate(_SCALES):
        luminance, contrast = _ssim_terms(images, truth)
        both = contrast if number < len(_SCALES) - 1 else luminance * contrast
        found *= jnp.maximum(jnp.mean(both, (1, 2, 3)), 0.0) ** weight
        images, truth = (nn.avg_pool(x, (2, 2), (2, 2)) for x in (images, truth))
    return found


def label_agreement(scores: Float[Array, "B classes"], truth: Float[Array, "B classes"]) -> Float[Array, "B"]:
    """Whether two sets of logits [B, classes] have the same largest entry. Returns [B], 0 or 1."""
    _check_pair(scores, truth, 2, "[B, classes]")
    return (scores.argmax(1) == truth.argmax(1)).astype(jnp.float32)


def latent_cosine(latents: Float[Array, "B C"], truth: Float[Array, "B C"]) -> Float[Array, "B"]:
    """Cosine similarity of latents [B, C]. Returns [B] in [-1, 1]."""
    _check_pair(latents, truth, 2, "[B, C]")
    norms = jnp.linalg.norm(latents, axis=1) * jnp.linalg.norm(truth, axis=1)
    return jnp.sum(latents * truth, 1) / (norms + 1e-12)


def latent_error(latents: Float[Array, "B C"], truth: Float[Array, "B C"]) -> Float[Array, "B"]:
    """`|latents - truth| / |truth|` of [B, C]. Returns [B], at least 0."""
    _check_pair(latents, truth, 2, "[B, C]")
    return jnp.linalg.norm(latents - truth, axis=1) / jnp.linalg.norm(truth, axis=1)
