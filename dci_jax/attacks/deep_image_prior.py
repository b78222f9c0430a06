"""Deep image prior (Ulyanov, Vedaldi & Lempitsky, CVPR 2018): each image is an untrained network's output on noise.

Optimises the network's weights instead of pixels, one network per image, until the features match. The only
prior is that a convolutional hourglass fits natural images sooner than noise.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float

from dci_jax.attacks.feature_matching import match_loss
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, split_index
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array, Reconstruct


class Hourglass(nn.Module):
    """Noise [H, W, C] -> an image [H, W, channels] in [0, 1]: down by halves, and up again with skips.

    Attributes:
      channels: of the image.
      width: channels of the hidden layers.
      levels: halvings.
    """

    channels: int
    width: int
    levels: int

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        def conv(x, stride=1):
            x = nn.Conv(self.width, (3, 3), (stride, stride), padding=((1, 1), (1, 1)))(x)
            return nn.leaky_relu(nn.GroupNorm(num_groups=4)(x), 0.2)

        skips = []
        for _ in range(self.levels):
            skips.append(nn.Conv(4, (1, 1))(x))
            x = conv(conv(x, stride=2))
        for skip in reversed(skips):
            x = jax.image.resize(x, (*skip.shape[:2], x.shape[-1]), "bilinear")
            x = conv(conv(jnp.concatenate([x, skip], -1)))
        return nn.sigmoid(nn.Conv(self.channels, (1, 1))(x))


def deep_image_prior(
    network: Network,
    inputs: Prior | None,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    width: int,
    levels: int,
    steps: int,
    learning_rate: float,
    total_variation: float,
) -> dict[str, Reconstruct]:
    """Optimise one hourglass per image; there is no training, so this returns immediately.

    Args:
      network: the target, known to the attacker.
      inputs, folder: unused.
      splits: split points to reconstruct from.
      key: for weights and noise.
      width, levels: of the hourglass.
      steps: Adam updates per batch of images.
      learning_rate: initial learning rate of Adam; decays to zero on a cosine schedule.
      total_variation: weight of TV per pixel, relative to the relative feature distance.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    del inputs, folder
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    module = Hourglass(network.input_shape[-1], width, levels)
    weights = sharding.put(np.float32([total_variation, 0]), sharding.replicated())

    def reconstruct(name, features):
        noise, params = _begin(module, network.input_shape[:2], key, len(features))
        noise = sharding.put(noise, sharding.batch_sharded())
        params, _ = minimize(
            _loss(split_index(network, name), module),
            params,
            (network, features, weights, noise),
            lambda _: None,
            steps=steps,
            optimizer=optimizer,
            layout=sharding.batch_sharded(),
        )
        return render(module, params, noise)

    return {name: functools.partial(reconstruct, name) for name in splits}


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    levels: int,
    **settings: Any,
) -> None:
    """Raise InputError if the image cannot be halved `levels` times."""
    del splits, shape, settings
    if any(side % 2**levels for side in network.input_shape[:2]):
        raise InputError(
            f"deep_image_prior.levels is {levels}, but sides of {network.input_shape[0]} and {network.input_shape[1]} pixels "
            f"are not both divisible by {2**levels}; give fewer."
        )


def prior_loss(split: int, module: Hourglass, params, frozen: tuple, _):
    """`match_loss` of the images that the hourglasses make.

    Args:
      split: split of the features.
      module: the hourglass.
      params: its parameters for each image, every leaf [B, ...].
      frozen: (network, features [B, ...], weights of TV and prior [2], noise [B, H, W, width]).
    """
    *frozen, noise = frozen
    return match_loss(split, None, render(module, params, noise), tuple(frozen), None)


@functools.partial(jax.jit, static_argnums=0)
def render(module: Hourglass, params, noise: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Images [B, H, W, C] in [0, 1] from parameters and noise, each [B, ...]."""
    return jax.vmap(module.apply)(params, noise)


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def _begin(module, size, key, count):
    """Noise [B, H, W, width] and parameters; an image's own do not depend on the batch size."""

    def one(number):
        key_noise, key_params = jax.random.split(jax.random.fold_in(key, number))
        noise = jax.random.uniform(key_noise, (*size, module.width), maxval=0.1)
        return noise, module.init(key_params, noise)

    return jax.vmap(one)(jnp.arange(count))


@functools.cache  # `minimize` compiles once per loss object
def _loss(split, module):
    return functools.partial(prior_loss, split, module)
