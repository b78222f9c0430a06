"""Feature matching: the loss and the loop of every attack that optimises each image, or latent.

    sum over images of  |F(x) - f|^2 / |f - mean f|^2  +  tv TV(x)  +  weight prior(x)

A prior adds knowledge about images, such as a GAN's or a diffusion model's: a pure function
`(network, images [B, H, W, C] in [0, 1]) -> [B]`, lower for likelier images (docs/own_prior.py).
A generator's input is a latent [B, C], which has no total variation.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from dci_jax.defenses.channel import with_observation
from dci_jax.inputs.latents import clip, latent_prior
from dci_jax.inputs.mixture import POOL, Prior, batches
from dci_jax.losses import total_variation
from dci_jax.network import Network, run, split_index
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array

ImagePrior = Callable[[Network, Array], Array]


@dataclass(frozen=True)
class Regularizer:
    """Regularization of the images, besides matching features.

    Attributes:
      total_variation: weight of TV per pixel, relative to the relative feature distance.
      at: ((split point, weight), ...): other weights of TV there, because deeper features carry less
        information about an image.
      prior: see above; None for none.
      weight: of the prior.
    """

    total_variation: float
    at: tuple[tuple[str, float], ...] = ()
    prior: ImagePrior | None = None
    weight: float = 0.0


def match(
    network: Network,
    name: str,
    features: Float[Array, "B *f"],
    images: Float[Array, "B *x"],
    regularizer: Regularizer,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    label: str = "",
) -> Float[Array, "B *x"]:
    """Images [B, H, W, C] in [0, 1] after `steps` updates that match their features.

    Args:
      network: the target.
      name: split point.
      features: those of the private images there, [B, ...].
      images: initial images, [B, H, W, C] in [0, 1].
      regularizer, optimizer, steps: of the optimization; `minimize` compiles once per optimizer object.
      label: shown with the progress; empty shows none.
    """
    smooth = dict(regularizer.at).get(name, regularizer.total_variation)
    weights = sharding.put(np.float32([smooth, regularizer.weight]), sharding.replicated())
    images, _ = minimize(
        _loss(split_index(network, name), regularizer.prior),
        images,
        (network, features, weights),
        lambda _: None,
        steps=steps,
        optimizer=optimizer,
        project=project(latent_prior(network)),
        layout=sharding.batch_sharded(),
        label=label,
    )
    return images


def match_loss(
    split: int, prior: ImagePrior | None, images: Float[Array, "B *x"], frozen: tuple, _
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The equation above (He et al., 2019, eq. 2, with a prior).

    A sum, so that an image's reconstruction does not depend on the others in its batch.

    Args:
      split: split of the features.
      prior: see above.
      images: [B, H, W, C] in [0, 1].
      frozen: (network, features [B, ...], weights of TV and prior [2]).

    Returns:
      (loss, terms), the terms per image and without their weights.
    """
    network, features, weights = frozen
    terms = {"features": relative_distance(run(with_observation(network, features), images, 0, split), features)}
    loss = jnp.sum(terms["features"])
    if not latent_prior(network):
        terms["tv"] = jax.vmap(lambda image: total_variation(image[None]))(images)
        loss += weights[0] * jnp.sum(terms["tv"])
    if prior:
        terms["prior"] = prior(network, images)
        loss += weights[1] * jnp.sum(terms["prior"])
    return loss, {name: jnp.mean(term) for name, term in terms.items()}


def relative_distance(found: Float[Array, "B *f"], features: Float[Array, "B *f"]) -> Float[Array, "B"]:
    """|found - f|^2 / |f - mean f|^2 of each example, the mean over pixels: [B, ...] twice -> [B]."""
    axes = tuple(range(1, features.ndim))
    return jnp.sum((found - features) ** 2, axes) / (spread(features) + 1e-6)


def spread(features: Float[Array, "B *f"]) -> Float[Array, "B"]:
    """|f - mean f|^2 of each example, the mean over pixels, or channels where there is one pixel: [B, ...] -> [B]."""
    axes = tuple(range(1, features.ndim))
    pixels = axes[:-1] if math.prod(features.shape[1:-1]) > 1 else axes  # of one pixel the mean is that pixel
    return jnp.sum((features - jnp.mean(features, pixels, keepdims=True)) ** 2, axes)


@functools.cache  # `minimize` compiles once per object
def project(latent: str) -> Callable[[Array], Array]:
    """The projection of inputs to valid values after an update, see `latents.clip`."""
    return functools.partial(clip, latent)


def held_out(network: Network, inputs: Prior, key: Array, count: int) -> Float[Array, "count H W C"]:
    """Procedural images for an attack's choices: from the mixture, or dead leaves if it has none."""
    weights = tuple(s for s in inputs.weights if s[0] != POOL) or (("dead_leaves", 1.0),)
    return batches(replace(inputs, pool=(), weights=weights, shape=network.input_shape), key, count)(0)


def share(start: Float[Array, "B *x"], found: Float[Array, "B *x"], truth: Float[Array, "B *x"]) -> float:
    """The share of the way from `start` to `found` that is nearest to the truth on average, from 0 to 1.

    Matching features also fits the noise on them; an attacker who knows the defense chooses the share on images of his own.
    """
    moved = found - start
    return float(jnp.clip(jnp.sum(moved * (truth - start)) / jnp.maximum(jnp.sum(moved**2), 1e-12), 0, 1))


def blank(network: Network, count: int) -> Float[Array, "count *x"]:
    """He et al.'s start: zeros after input normalisation, the mean colour of the training images.

    For a generator it is the mean of its prior.
    """
    return jnp.broadcast_to(jnp.array(network.mean, jnp.float32), (count, *network.input_shape))


@functools.cache  # `minimize` compiles once per loss object
def _loss(split, prior):
    return functools.partial(match_loss, split, prior)
