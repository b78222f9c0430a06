"""Damped Gauss-Newton steps on latents, with the full Jacobian: what `attacks.gauss_newton` does for generators.

min_d |J d - (f - G(z))|^2 + damping |J|^2 / C  |d|^2
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.inputs.latents import clip, latent_prior
from dci_jax.network import Network, run
from dci_jax.runtime import distributed
from dci_jax.typing import Array

_TOGETHER = 8  # latents at a time: bounds the memory of their Jacobians
_FALL, _RISE = 0.2, 5.0


def solve(
    network: Network,
    split: int,
    features: Float[Array, "B *f"],
    latents: Float[Array, "B C"],
    steps: int,
    damping: float,
) -> Float[Array, "B C"]:
    """Latents [B, C] after `steps` steps from `latents`, for features [B, ...] at `split`; each independently."""
    found = []
    for start in range(0, len(latents), _TOGETHER):
        wanted, z = features[start : start + _TOGETHER], latents[start : start + _TOGETHER]
        weight = jnp.full(len(z), damping)
        for _ in range(steps):  # no loop inside `jit`: XLA:CPU runs convolutions in loops many times slower
            distributed.stop_if_asked()
            z, weight = step(network, split, wanted, z, weight)
        found.append(z)
    return jnp.concatenate(found)


@functools.partial(jax.jit, static_argnums=1)
def step(
    network: Network, split: int, wanted: Float[Array, "B *f"], latents: Float[Array, "B C"], weights: Float[Array, "B"]
) -> tuple[Float[Array, "B C"], Float[Array, "B"]]:
    """(latents, damping) after one step of latents [B, C] towards the features `wanted` [B, ...]."""

    def one(wanted, z, weight):
        def residual(z):
            return (run(network, z[None], 0, split)[0] - wanted).ravel()

        r = residual(z)
        new = clip(latent_prior(network), z - damped(jax.jacfwd(residual)(z), r, weight))
        r_new = residual(new)
        better = r_new @ r_new < r @ r
        return jnp.where(better, new, z), weight * jnp.where(better, _FALL, _RISE)

    return jax.vmap(one)(wanted, latents, weights)


def damped(jacobian: Float[Array, "P C"], residual: Float[Array, "P"], weight: Array | float) -> Float[Array, "C"]:
    """argmin_d |J d - r|^2 + weight |J|^2 / C |d|^2, of J [P, C] and r [P].

    By an orthogonal factorisation of J stacked on the damping: J'J would square the condition number.
    """
    entries = jacobian.shape[1]
    scale = jnp.sqrt(weight * jnp.sum(jacobian**2) / entries)
    q, r = jnp.linalg.qr(jnp.concatenate([jacobian, scale * jnp.eye(entries)]))
    padded = jnp.concatenate([residual, jnp.zeros(entries)])
    return jax.scipy.linalg.solve_triangular(r, q.T @ padded)
