"""rMLE (He, Zhang & Lee, ACSAC 2019): optimise the input until its features match.

Started from a blank image, it is the published white-box attack; started from another attack's output,
it refines that output, as in `dci+refine`.
"""

import functools
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dci_jax import import_from_string
from dci_jax.attacks.feature_matching import Regularizer, blank, held_out, match, share
from dci_jax.defenses.channel import NONE, Channel, sent, with_defense
from dci_jax.errors import InputError, reason
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, split_index
from dci_jax.typing import Array, Reconstruct

log = logging.getLogger("dci_jax")

_HELD_OUT = 8  # procedural images for choosing the share of the way to go


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
    start: dict[str, Reconstruct] | None = None,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Optimise images for their features; nothing is trained.

    Args:
      network: the target, known to the attacker.
      inputs, key: procedural images, on which a refinement chooses how far to go from its start, behind a defense.
      folder: unused.
      splits: split points to reconstruct from.
      steps: updates per batch of images.
      learning_rate: initial learning rate, in pixel units of [0, 1]; decays to zero on a cosine schedule.
      total_variation, total_variation_at: see `feature_matching.Regularizer`.
      prior: "module.path:function" of a prior, see `attacks.feature_matching`; empty: none.
      prior_weight: weight of the prior.
      start: split point -> another attack's reconstruction to start from; None starts from zeros
        with AMSGrad, as published. A given start is refined with Adam, because AMSGrad remembers
        the large gradients of the first steps and stalls when the start is good.
      channel: the defense that this attacker knows, simulated in the loss: noise by its expectation, rounding
        with straight-through gradients, dropped values by what is known of them (`defenses.comparison`).

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    del folder
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adam(rate, b2=0.99) if start else optax.amsgrad(rate)
    own = import_from_string.function(prior) if prior else None
    regularizer = Regularizer(total_variation, tuple(total_variation_at), own, prior_weight)

    shares = dict.fromkeys(splits, 1.0)

    def reconstruct(name, features):
        first = start[name](features) if start else blank(network, len(features))
        known = with_defense(network, split_index(network, name), channel)
        found = match(known, name, features, first, regularizer, optimizer, steps)
        return first + shares[name] * (found - first) if shares[name] < 1 else found

    if start and channel.kind != "none":
        truth = held_out(network, inputs, key, _HELD_OUT)
        for name in splits:
            received = sent(network, split_index(network, name), channel, key, truth)
            shares[name] = share(start[name](received), reconstruct(name, received), truth)
            log.info("refined after %s, %s: taking %.2f of the way", name, channel.label, shares[name])
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
