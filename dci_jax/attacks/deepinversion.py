"""DeepInversion's prior on features (Yin et al., CVPR 2020): rMLE whose images must also match the network's BatchNorm statistics.

The statistics are those of a whole batch of private images, in every BatchNorm layer of the network, so
the images of a batch depend on one another: use batches of at least a hundred.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from dci_jax.attacks.feature_matching import Regularizer, blank, match
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior
from dci_jax.losses import batch_norm_statistics
from dci_jax.network import Network, running_statistics, trace
from dci_jax.typing import Array, Reconstruct


def deepinversion(
    network: Network,
    inputs: Prior | None,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    steps: int,
    learning_rate: float,
    total_variation: float,
    statistics: float,
) -> dict[str, Reconstruct]:
    """Optimise images for their features and statistics; there is no training, so this returns immediately.

    Args:
      network: the target, known to the attacker, with BatchNorm layers.
      inputs, key, folder: unused.
      splits: split points to reconstruct from.
      steps: Adam updates per batch of images, from a blank start.
      learning_rate: initial learning rate, in pixel units of [0, 1]; decays to zero on a cosine schedule.
      total_variation: weight of TV per pixel, relative to the relative feature distance.
      statistics: weight of the BatchNorm statistics, likewise.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].

    Raises:
      ValueError: when reconstructing from a network without BatchNorm layers.
    """
    del inputs, key, folder
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b2=0.99)
    regularizer = Regularizer(total_variation, (), statistics_prior, statistics)

    def reconstruct(name, features):
        images = blank(network, len(features))
        return match(network, name, features, images, regularizer, optimizer, steps)

    return {name: functools.partial(reconstruct, name) for name in splits}


def statistics_prior(network: Network, images: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Distance of the batch's BatchNorm statistics from the running ones, the same for each image: [B]."""
    _, found = trace(network, images)
    distance = batch_norm_statistics(found, running_statistics(network))
    return jnp.full(len(images), distance)


def check(network: Network, splits: tuple[str, ...], shape: tuple[int, ...], **settings: Any) -> None:
    """Raise InputError if the network has no BatchNorm layer."""
    del splits, shape, settings
    if not jax.tree.leaves(running_statistics(network)):
        raise InputError(
            f"The attack 'deepinversion' matches BatchNorm statistics, and {network.name} has none in the form "
            "that runs on the device; remove it from attacks."
        )
