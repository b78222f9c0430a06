"""Which directions of a latent are visible in an image: the spectrum of the generator's Jacobian.

A generator maps quite different latents to nearly the same image. Along the right singular vectors of
dG/dz a latent changes its image by the singular values; where those are tiny, no attack on 8-bit
pixels can recover the latent.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.inputs.latents import DEVIATIONS, latent_prior
from dci_jax.network import Network, run
from dci_jax.typing import Array


@functools.partial(jax.jit, static_argnums=2)
def spectrum(network: Network, latents: Float[Array, "B C"], index: int) -> tuple[Array, Array]:
    """Singular values and right singular vectors of the features' Jacobian at each latent.

    Args:
      network: a generator.
      latents: [N, C].
      index: the split whose features are differentiated; the last for images.

    Returns:
      (values [N, C], vectors [N, C, C]), values descending: the root mean square change of a pixel for a
      step of one of the prior's standard deviations along the unit vector `vectors[n, i]`.
    """

    def one(latent):
        jacobian = jax.jacfwd(lambda z: run(network, z[None], 0, index).ravel())(latent)
        # J's R has its singular values and right singular vectors. J'J would square them, and lose the small ones.
        _, values, vectors = jnp.linalg.svd(jnp.linalg.qr(jacobian, mode="r"))
        rms = jnp.pad(values, (0, len(vectors) - len(values))) / jnp.sqrt(len(jacobian))
        return DEVIATIONS[latent_prior(network)] * rms, vectors

    return jax.lax.map(one, latents)
