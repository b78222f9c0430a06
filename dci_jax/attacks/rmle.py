"""rMLE (He, Zhang & Lee, ACSAC 2019): optimise the input until its features match.

Started from a blank image; `attacks.refine` starts from another attack's reconstruction. With Adam: optax's AMSGrad keeps the
largest bias-corrected second moment, so that the gradients of the first steps, which are by far the largest, slow down all others.
PyTorch's AMSGrad, which the published code takes, keeps the largest before it is corrected, and is as good as Adam.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax import import_from_string
from dci_jax.attacks.feature_matching import Regularizer, blank, match
from dci_jax.defenses.channel import NONE, Channel, with_defense
from dci_jax.errors import InputError, reason
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, split_index
from dci_jax.typing import Array, Reconstruct


def rmle(
    network: Network,
    inputs: Prior | None,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    steps: int,
    learning_rate: float,
    total_variation: float,
    total_variation_at: tuple[tuple[str, float], ...] = (),
    prior: str = "",
    prior_weight: float = 0.0,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Optimise images for their features; nothing is trained.

    Args:
      network: the target, known to the attacker.
      inputs, key, folder: unused.
      splits: split points to reconstruct from.
      steps: updates per batch of images.
      learning_rate: initial learning rate, in pixel units of [0, 1]; decays to zero on a cosine schedule.
      total_variation, total_variation_at: see `feature_matching.Regularizer`.
      prior: "module.path:function" of a prior, see `attacks.feature_matching`; empty: none.
      prior_weight: weight of the prior.
      channel: the defense that this attacker knows, simulated in the loss: noise by its expectation, rounding
        with straight-through gradients, dropped values by what is known of them (`defenses.comparison`).

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    del inputs, key, folder
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    own = import_from_string.function(prior) if prior else None
    regularizer = Regularizer(total_variation, tuple(total_variation_at), own, prior_weight)

    def reconstruct(name, features):
        known = with_defense(network, split_index(network, name), channel)
        return match(known, name, features, blank(network, len(features)), regularizer, optimizer, steps)

    return {name: functools.partial(reconstruct, name) for name in splits}


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    total_variation_at: tuple[tuple[str, float], ...] = (),
    prior: str = "",
    **settings: Any,
) -> None:
    """Raise InputError if `total_variation_at` names an unknown split point, or `prior` is not a valid function."""
    del splits, settings
    for name, _ in total_variation_at:
        split_index(network, name)
    if prior:
        _try_prior(prior, network, shape)


def _try_prior(name, network, shape):
    """Raise InputError unless a custom prior returns a number for each image; by shapes, nothing is computed."""
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    try:
        found = jax.eval_shape(import_from_string.function(name), network, images)
    except InputError:
        raise
    except Exception as error:  # any exception: the function is the user's
        raise InputError(
            f"{name} fails on (network, images {list(images.shape)}) ({reason(error)}); correct it."
        ) from error
    if getattr(found, "shape", None) != (2,) or not jnp.issubdtype(found.dtype, jnp.floating):
        raise InputError(
            f"{name} returns {found} for images {list(images.shape)}; it must return one float for each, [B]."
        )
