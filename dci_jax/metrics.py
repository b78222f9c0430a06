"""How close a reconstruction is: PSNR, SSIM, label agreement, latent error; one number per example."""

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

Array = jax.Array | np.ndarray


def mse(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Mean squared error of [B, H, W, C] in [0, 1]. Returns [B]."""
    return jnp.mean((images - truth) ** 2, (1, 2, 3))


def psnr(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Peak signal-to-noise ratio in dB, peak 1, of [B, H, W, C] in [0, 1]; at most 100. Returns [B]."""
    return -10 * jnp.log10(jnp.maximum(mse(images, truth), 1e-10))


def ssim(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Structural similarity (Wang et al., 2004) of [B, H, W, C] in [0, 1]: Gaussian window 11 x 11,
    sigma 1.5, mean over pixels and channels. Returns [B] in [-1, 1]."""
    return pix.ssim(images, truth)


_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of the five scales, the finest first


def ms_ssim(images: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """Multi-scale structural similarity (Wang et al., 2003) of [B, H, W, C] in [0, 1]. Returns [B] in [0, 1].

    NaN where an image is too small for the window at the coarsest of five scales: below 176 pixels.
    """
    if min(images.shape[1:3]) < 176:
        return jnp.full(len(images), jnp.nan)
    found = 1.0
    for number, weight in enumerate(_SCALES):
        luminance = {} if number == len(_SCALES) - 1 else {"k1": 1e4}  # so large that its factor is 1
        found *= jnp.maximum(pix.ssim(images, truth, **luminance), 0.0) ** weight
        images, truth = (nn.avg_pool(x, (2, 2), (2, 2)) for x in (images, truth))
    return found


def label_agreement(scores: Float[Array, "B classes"], truth: Float[Array, "B classes"]) -> Float[Array, "B"]:
    """Whether two sets of logits [B, classes] have the same largest entry. Returns [B], 0 or 1."""
    return (scores.argmax(1) == truth.argmax(1)).astype(jnp.float32)


def latent_cosine(codes: Float[Array, "B C"], truth: Float[Array, "B C"]) -> Float[Array, "B"]:
    """Cosine similarity of codes [B, C]. Returns [B] in [-1, 1]."""
    norms = jnp.linalg.norm(codes, axis=1) * jnp.linalg.norm(truth, axis=1)
    return jnp.sum(codes * truth, 1) / (norms + 1e-12)


def latent_error(codes: Float[Array, "B C"], truth: Float[Array, "B C"]) -> Float[Array, "B"]:
    """|codes - truth| / |truth| of [B, C]. Returns [B], at least 0."""
    return jnp.linalg.norm(codes - truth, axis=1) / jnp.linalg.norm(truth, axis=1)
