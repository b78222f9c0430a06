"""Channel pruning: channels that carry most about the image and least about the prediction are not sent."""

from collections.abc import Callable
from pathlib import Path

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.network import Network, first_blocks, logits, run
from dci_jax.typing import Array

_BATCHES = 4  # of images for the two measures
_RIDGE = 1e-3


def prune_channels(
    params: dict[str, Array], key: Array | None, features: Float[Array, "B *f"], strength: Array
) -> Float[Array, "B *f"]:
    """The same channels of every example become zero; the server knows which."""
    return features * params["kept"]


def learn_channels(
    network: Network, index: int, strength: float, batches: Callable[[int], Array], key: Array, folder: Path, steps: int
) -> dict[str, Array]:
    """Which channels to keep: all but the share `strength` whose `leak` over `use` is largest. Solved, not trained.

    DISCO (Singh et al., CVPR 2021) trains a network to choose the channels against an adversary;
    this is its criterion, information about the input versus the task, in closed form and without the adversary.
    """
    images = [batches(number) for number in range(_BATCHES)]
    leaks, uses = _leak(network, index, images), sum(np.asarray(use(network, index, batch)) for batch in images)
    order = np.argsort(leaks / leaks.sum() / (uses / uses.sum() + 1e-6))
    kept = np.zeros(len(order), np.float32)
    kept[order[: len(order) - round(strength * len(order))]] = 1
    return {"kept": jnp.array(kept)}


def _leak(network, index, images):
    """Added error of the best linear map from a pixel's channels to its image patch without each channel, [C].

    For x = A f, dropping channel c costs |A_c|^2 / (G^-1)_cc, with G the channels' second moments.
    """
    gram = cross = 0.0
    for batch in images:
        f = np.asarray(first_blocks(network, index, batch), np.float64)
        factor = batch.shape[1] // f.shape[1] if f.ndim == 4 else 1
        x = np.asarray(dm_pix.space_to_depth(batch, factor) if f.ndim == 4 else batch, np.float64).reshape(
            *f.shape[:-1], -1
        )
        f, x = (a.reshape(-1, a.shape[-1]) for a in (f, x))
        gram, cross = gram + f.T @ f, cross + f.T @ (x - x.mean(0))
    inverse = np.linalg.inv(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)))
    return np.sum((inverse @ cross) ** 2, 1) / np.diag(inverse) + 1e-12


@jax.jit
def _answer(network, features):
    return logits(network, features) if network.head else features.reshape(len(features), -1)


def use(network: Network, index: int, images: Float[Array, "B ..."]) -> Float[Array, " C"]:
    """Contribution of each channel to the prediction: |sum over pixels of gradient x value| (Molchanov et al., ICLR 2017), [C].

    Args:
      network: the target.
      index: split.
      images: [B, H, W, C] in [0, 1].
    """
    features = first_blocks(network, index, images)

    def top(f):
        return jnp.sum(jnp.max(_answer(network, run(network, f, index)), -1))

    value = features * jax.grad(top)(features)
    return jnp.sum(jnp.abs(jnp.sum(value.reshape(len(value), -1, value.shape[-1]), 1)), 0)
