"""Damped Gauss-Newton (Levenberg, 1944; Marquardt, 1963) on a generator's code, until its image matches.

A code has a hundred entries and not thousands of pixels, so the whole Jacobian J of its features can be
had, and a step solves

    min_d |J d - (f - G(z))|^2 + damping |J|^2 / C  |d|^2

The damping falls while steps succeed and rises when one fails; directions that the features do not show
stay where the start had them.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from dci_jax.attacks.matching import blank
from dci_jax.blocks import Network, run, split_index
from dci_jax.inputs import Inputs
from dci_jax.latents import clip

Array = jax.Array
Reconstruct = Callable[[Array], Array]

_TOGETHER = 8  # codes at a time: bounds the memory of their Jacobians
_FALL, _RISE = 0.2, 5.0


def gauss_newton(
    network: Network,
    inputs: Inputs,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    steps: int,
    damping: float,
    start: dict[str, Reconstruct] | None = None,
) -> dict[str, Reconstruct]:
    """Optimise codes for their features; nothing is trained, so this returns at once.

    Args:
      network: the generator, known to the attacker.
      inputs, key, folder: not used by this attack.
      splits: split points to be read back.
      steps: how many; each costs about as much as C forward passes, C the entries of a code.
      damping: at the start, relative to the mean square of J's columns.
      start: split point -> another attack's codes to start from; None starts from the prior's mean.

    Returns:
      split point -> function from its features [B, ...] to codes [B, C].
    """
    del inputs, key, folder

    def reconstruct(name, features):
        codes = start[name](features) if start else blank(network, len(features))
        return solve(network, split_index(network, name), features, codes, steps, damping)

    return {name: functools.partial(reconstruct, name) for name in splits}


def solve(
    network: Network, split: int, features: Array, codes: Array, steps: int, damping: float
) -> Array:
    """Codes [B, C] after `steps` steps from `codes`, for features [B, ...] at `split`; each on its own."""
    found = []
    for start in range(0, len(codes), _TOGETHER):
        wanted, z = features[start : start + _TOGETHER], codes[start : start + _TOGETHER]
        weight = jnp.full(len(z), damping)
        for _ in range(
            steps
        ):  # no loop in the program: XLA:CPU runs convolutions in one many times slower
            z, weight = step(network, split, wanted, z, weight)
        found.append(z)
    return jnp.concatenate(found)


@functools.partial(jax.jit, static_argnums=1)
def step(
    network: Network, split: int, wanted: Array, codes: Array, weights: Array
) -> tuple[Array, Array]:
    """(codes, damping) after one step, of codes [B, C] that are to have the features `wanted` [B, ...]."""

    def one(wanted, z, weight):
        def residual(z):
            return (run(network, z[None], 0, split)[0] - wanted).ravel()

        r = residual(z)
        new = clip(network.latent, z - damped(jax.jacfwd(residual)(z), r, weight))
        r_new = residual(new)
        better = r_new @ r_new < r @ r
        return jnp.where(better, new, z), weight * jnp.where(better, _FALL, _RISE)

    return jax.vmap(one)(wanted, codes, weights)


def damped(jacobian: Array, residual: Array, weight: Array) -> Array:
    """argmin_d |J d - r|^2 + weight |J|^2 / C |d|^2, of J [P, C] and r [P].

    By an orthogonal factorisation of J and the damping together: J'J would square what rounding does.
    """
    entries = jacobian.shape[1]
    scale = jnp.sqrt(weight * jnp.sum(jacobian**2) / entries)
    q, r = jnp.linalg.qr(jnp.concatenate([jacobian, scale * jnp.eye(entries)]))
    padded = jnp.concatenate([residual, jnp.zeros(entries)])
    return jax.scipy.linalg.solve_triangular(r, q.T @ padded)
