"""Noise whose scale is calibrated by Fisher information, so that no unbiased attacker's error is below a bound."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.network import Network, run
from dci_jax.typing import Array

Features = Float[Array, "B *f"]

_BATCHES, _DIRECTIONS = 4, 4  # of images, and random directions for each


def fisher_noise(params: dict[str, Array], key: Array, features: Features, strength: Array | float) -> Features:
    """Gaussian noise of one scale for all features."""
    return features + params["scale"] * jax.random.normal(key, features.shape)


def learn_fisher_noise(
    network: Network, index: int, strength: float, batches: Callable[[int], Array], key: Array, folder: Path, steps: int
) -> dict[str, Array]:
    """The scale at which the bound on the mean squared error of an image of d values is `strength` dB of PSNR (Maeng et al., ICML 2023).

    By Cramér and Rao, an unbiased attacker's mean squared error is at least d s^2 / tr(J^T J) for noise of deviation s and the
    Jacobian J of the device's blocks. The trace is a mean over images and random directions v of |J v|^2 (Hutchinson, 1989).
    Reconstruction with a prior is biased, so that the bound is none for it.
    """
    total = 0.0
    for number in range(_BATCHES):
        images = batches(number)
        for each in jax.random.split(jax.random.fold_in(key, number), _DIRECTIONS):
            total += float(_power(network, index, images, jax.random.normal(each, images.shape)))
    trace = total / (_BATCHES * _DIRECTIONS * len(images))
    bound = 10 ** (-strength / 10)
    return {"scale": jnp.float32((bound * trace / (images.size / len(images))) ** 0.5)}


@functools.partial(jax.jit, static_argnums=1)
def _power(network, index, images, direction):
    _, found = jax.jvp(lambda x: run(network, x, 0, index), (images,), (direction,))
    return jnp.sum(found**2)
