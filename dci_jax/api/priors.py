"""Priors: procedural and synthetic images that stand for the network's training images."""

import numbers
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dci_jax.api.calls import (
    as_weights,
    check_images,
    check_key,
    check_mixture,
    check_values,
    float32,
    section_of,
)
from dci_jax.errors import InputError, described
from dci_jax.inputs import prior as fitting
from dci_jax.inputs import synthesis
from dci_jax.inputs.latents import latent_prior
from dci_jax.inputs.mixture import POOL, Prior, mixture
from dci_jax.network import Network, check_network
from dci_jax.runtime import progress as shown
from dci_jax.typing import Array

_MIXTURE = (("dead_leaves", 0.8), ("pink_noise", 0.2))


def fit_prior(
    network: Network,
    *,
    key: Array,
    weights: Sequence[tuple[str, float]] = _MIXTURE,
    side: int = 0,
    num_steps: int = 60,
    batch_size: int = 128,
    learning_rate: float = 0.05,
    padding: Sequence[int] = (0, 4),
    progress: bool = True,
) -> Prior:
    """Fit procedural images to the network's BatchNorm statistics; no real image is used.

    For a generator, returns the prior of its latents.

    Args:
      network: the target. Without BatchNorm layers, the images are left unchanged.
      key: PRNG key.
      weights: ((source, weight), ...) of "dead_leaves", "pink_noise" and "white_noise".
      side: side of the images in pixels; chains are convolutional and also reconstruct larger images. 0: the network's own.
      num_steps: Adam updates; 0: leave the images unchanged.
      batch_size: images per update.
      learning_rate: initial learning rate of Adam; decays to 0 on a cosine schedule.
      padding: candidate widths in pixels of the black border in the network's training crops; the best fit is used.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.

    Raises:
      InputError: an unknown source, a side larger than the network's, or a border larger than the image.
    """
    check_network(network)
    check_key(key)
    if not isinstance(padding, Sequence) or isinstance(padding, str):
        raise InputError(f"padding is {described(padding)}; give widths to try, such as (0, 4).")
    check_values(
        side=(side, "inputs.side"),
        num_steps=(num_steps, "prior_fitting.steps"),
        batch_size=(batch_size, "prior_fitting.batch"),
        learning_rate=(learning_rate, "prior_fitting.learning_rate"),
        padding=(tuple(padding), "prior_fitting.padding"),
    )
    if latent_prior(network):
        return Prior((), ((network.latent, 1.0),), network.input_shape)
    if side > min(network.input_shape[:2]):
        size = " x ".join(map(str, network.input_shape[:2]))
        raise InputError(
            f"side is {side}, but {network.name} takes images of {size} pixels; give a smaller side, or 0 for its own."
        )
    shape = (side, side, network.input_shape[2]) if side else network.input_shape
    weights = mixture(as_weights(weights), 0)
    fitting.check(num_steps, padding, min(shape[:2]))
    start = Prior((), weights, shape)
    how = {"steps": num_steps, "batch": batch_size, "learning_rate": learning_rate, "padding": tuple(padding)}
    with shown.visible(progress), float32():
        return fitting.fit_filter(network, start, key, None, **how)


def synthesize(
    network: Network, *, key: Array, num_images: int = 256, progress: bool = True, **settings: Any
) -> np.ndarray:
    """Optimize images until their BatchNorm statistics are the network's (Yin et al., CVPR 2020); no real image is used.

    Args:
      network: the target, with BatchNorm layers or a head.
      key: PRNG key.
      num_images: number of images, whose joint statistics are matched.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.
      **settings: fields of the section "synthesis" in docs/fields.md, such as `stages=((32, 150),)`.

    Returns:
      uint8 [num_images, H, W, 3]; `with_synthetic` adds them to a prior.

    Raises:
      InputError: the network has neither BatchNorm layers nor a head, or a setting is invalid.
    """
    check_network(network)
    check_key(key)
    check_values(num_images=(num_images, "synthesis.batch"))
    if ignored := {"batch", "batches"} & settings.keys():
        raise InputError(f"{min(ignored)} is not an argument here; give num_images, all of which are one batch.")
    how = section_of("synthesis", settings) | {"batches": 1, "batch": num_images}
    synthesis.check(network, 1, how["stages"])
    with tempfile.TemporaryDirectory() as folder, shown.visible(progress), float32():
        made = synthesis.synthesize(network, key, Path(folder), **how)
        return np.stack([made[i] for i in range(len(made))])


def with_synthetic(prior: Prior, images: np.ndarray, weight: float = 0.5) -> Prior:
    """Add synthetic images uint8 [N, H, W, 3] to the prior, as the share `weight` (0 to 1) of every batch.

    Raises:
      InputError: the images are smaller than the prior's, or of another type, or the weight is not such a share.
    """
    if not isinstance(prior, Prior):
        raise InputError(f"prior is a {type(prior).__name__}; give what fit_prior returns.")
    check_mixture(prior)
    images = np.asarray(images) if isinstance(images, list | tuple) else images
    check_images(images, prior.shape)
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 < weight <= 1:
        raise InputError(f"weight is {described(weight)}; give a share above 0 and at most 1.")
    rest = [(source, (1 - weight) * share) for source, share in prior.weights if source != POOL]
    weights = ((POOL, weight), *(pair for pair in rest if pair[1] > 0))
    return Prior(np.asarray(images), weights, prior.shape, prior.filter)
