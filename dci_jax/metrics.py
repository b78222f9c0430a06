"""How close a reconstruction is: PSNR, SSIM, label agreement, latent error; one number per example."""

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
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
