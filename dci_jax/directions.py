"""Which directions of a latent code an image shows at all: the spectrum of the generator's Jacobian.

A generator maps quite different codes to nearly the same image. Along the right singular vectors of
dG/dz a code changes its image by the singular values; where those are tiny, no attack on 8-bit
pixels can tell the code.
"""

import functools

import jax
import jax.numpy as jnp

from dci_jax.blocks import Network, run
from dci_jax.latents import DEVIATIONS

Array = jax.Array

VISIBLE = 1 / 255  # root mean square change of a pixel: one level of 8 bits


@functools.partial(jax.jit, static_argnums=2)
def spectrum(network: Network, codes: Array, index: int) -> tuple[Array, Array]:
    """Singular values and right singular vectors of the features' Jacobian at each code.

    Args:
      network: a generator.
      codes: [N, C].
      index: the split whose features are differentiated; the last for images.

    Returns:
      (values [N, C], vectors [N, C, C]), values descending: the root mean square change of a pixel for a
      step of one of the prior's standard deviations along the unit vector `vectors[n, i]`.
    """

    def one(code):
        jacobian = jax.jacfwd(lambda z: run(network, z[None], 0, index).ravel())(code)
        # The eigenvectors of J'J [C, C] are J's right singular vectors, without J's large left ones.
        values, vectors = jnp.linalg.eigh(jacobian.T @ jacobian)
        rms = jnp.sqrt(jnp.maximum(values[::-1], 0) / len(jacobian))
        return DEVIATIONS[network.latent] * rms, vectors[:, ::-1].T

    return jax.lax.map(one, codes)
