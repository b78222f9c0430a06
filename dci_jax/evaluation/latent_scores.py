"""How close a reconstructed latent is to the true one, and its image to what was sent."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax import metrics
from dci_jax.evaluation.corruptions import CORRUPTIONS
from dci_jax.losses import batch_norm_statistics
from dci_jax.network import Network, run, trace
from dci_jax.typing import Array


@functools.partial(jax.jit, static_argnums=(0, 1))
def corrupt(name: str, strength: float, key: Array, features: Array) -> Array:
    """The attack's input: the features after a corruption, a key of `CORRUPTIONS`."""
    return CORRUPTIONS[name](key, features, strength)


@functools.partial(jax.jit, static_argnums=1)
def measure(
    network: Network, index: int, truth: Float[Array, "B C"], found: Float[Array, "B C"], sent: Float[Array, "B *f"]
) -> dict[str, Array]:
    """See `latents.read`: latents [B, C], the true and the found, and the features `sent` at split `index`."""
    image, again = run(network, truth), run(network, found)
    whole = index == len(network.blocks)
    return compared(again, image) | {
        "latent_cosine": metrics.latent_cosine(found, truth),
        "latent_error": metrics.latent_error(found, truth),
        "psnr_sent": metrics.psnr(sent, image) if whole else jnp.full(len(truth), jnp.nan),
        "sent": jnp.round((sent if whole else image) * 255).astype(jnp.uint8),
        "latent": found,
    }


def compared(found: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> dict[str, Array]:
    """mse, psnr, ssim [B] and "reconstruction" uint8, of images [B, H, W, 3] in [0, 1]."""
    return {
        "mse": metrics.mse(found, truth),
        "psnr": metrics.psnr(found, truth),
        "ssim": metrics.ssim(found, truth),
        "reconstruction": jnp.round(found * 255).astype(jnp.uint8),
    }


@jax.jit
def unlikeliness(network: Network, latents: Float[Array, "B C"]) -> Float[Array, "B"]:
    """Distance of the BatchNorm statistics of each latent's own features from the running ones. [N].

    A generator's defective samples are those with features unlike the ones in training; a score
    without data.
    """
    running = tuple(block.params.get("batch_stats", {}) for block in network.blocks)

    def one(latent):
        return batch_norm_statistics(trace(network, latent[None])[1], running)

    return jax.lax.map(one, latents, batch_size=32)


@jax.jit
def depths(network: Network, latents: Float[Array, "B C"], estimates: tuple[Array, ...]) -> dict[str, Array]:
    """Errors of each block's inverter, on the way from an image to its latent.

    Args:
      network: a generator.
      latents: the true ones, [B, C].
      estimates: (f_0, ..., f_N), from `Chain.estimates`.

    Returns:
      "errors" [B, N]: |f'_i - f_i| / |f_i - mean f_i| of i = 0 ... N - 1; "pictures" uint8
      [B, N, H, W, 3]: what the rest of the generator makes of each estimate.
    """
    features, errors, pictures = trace(network, latents)[0], [], []
    for i, (estimate, truth) in enumerate(zip(estimates[:-1], features, strict=False)):
        axes = tuple(range(1, truth.ndim))
        spread = jnp.sqrt(jnp.sum((truth - truth.mean(0)) ** 2, axes))
        errors.append(jnp.sqrt(jnp.sum((estimate - truth) ** 2, axes)) / spread)
        pictures.append(jnp.round(run(network, estimate, i) * 255).astype(jnp.uint8))
    return {"errors": jnp.stack(errors, 1), "pictures": jnp.stack(pictures, 1)}
