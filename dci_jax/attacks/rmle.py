"""rMLE (He, Zhang & Lee, ACSAC 2019): optimise the input until its features match.

Started from a grey image it is the published white-box attack; started from another attack's output
it is a refinement of that, such as `dci+refine`.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dci_jax import parallel
from dci_jax.blocks import Network, run, split_index
from dci_jax.inputs import Inputs
from dci_jax.losses import total_variation
from dci_jax.optimize import minimize

Array = jax.Array
Reconstruct = Callable[[Array], Array]


def rmle(
    network: Network,
    inputs: Inputs,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    total_variation: float,
    start: dict[str, Reconstruct] | None = None,
) -> dict[str, Reconstruct]:
    """Optimise images for their features; nothing is trained, so this returns at once.

    Args:
      network: the target, known to the attacker.
      inputs, key, folder: not used by this attack.
      splits: split points to be read back.
      steps: Adam updates per batch of images (the paper takes AMSGrad, which keeps the large
        gradients of the first steps in mind and stalls when the start is good).
      learning_rate: Adam's, in pixel units of [0, 1]; it falls to zero along a cosine.
      total_variation: weight of TV per pixel, relative to the relative feature distance.
      start: split point -> another attack's reconstruction to start from; None starts from grey.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    del inputs, key, folder
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b2=0.99)

    def reconstruct(name, features):
        images = (
            start[name](features) if start else jnp.full((len(features), *network.input_shape), 0.5)
        )
        weight = parallel.put(np.float32(total_variation), parallel.copied())
        frozen = (network, features, weight)
        loss = _losses(split_index(network, name))
        images, _ = minimize(
            loss,
            images,
            frozen,
            lambda _: None,
            steps=steps,
            optimizer=optimizer,
            project=clip,
            layout=parallel.split(),
        )
        return images

    return {name: functools.partial(reconstruct, name) for name in splits}


def feature_loss(split: int, images: Array, frozen, _) -> tuple[Array, dict[str, Array]]:
    """sum over images of |F(x) - f|^2 / |f - mean f|^2 + weight * TV(x) (He et al., eq. 2).

    A sum, so that an image's reconstruction does not depend on the others in its batch.
    """
    network, features, weight = frozen
    axes = tuple(range(1, features.ndim))
    spread = jnp.sum((features - jnp.mean(features, axes[:-1], keepdims=True)) ** 2, axes)
    distance = jnp.sum((run(network, images, 0, split) - features) ** 2, axes) / (spread + 1e-6)
    smoothness = jnp.sum(jax.vmap(lambda image: total_variation(image[None]))(images))
    loss = jnp.sum(distance) + weight * smoothness
    return loss, {"features": jnp.mean(distance), "tv": smoothness / len(images)}


def clip(images: Array) -> Array:
    """To valid pixels, [0, 1]."""
    return jnp.clip(images, 0, 1)


@functools.cache
def _losses(split):
    return functools.partial(feature_loss, split)
