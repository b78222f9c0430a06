"""rMLE (He, Zhang & Lee, ACSAC 2019): optimise the input until its features match.

Started from a blank image it is the published white-box attack; started from another attack's output
it is a refinement of that, such as `dci+refine`.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax

from dci_jax import named
from dci_jax.attacks.matching import Regularizer, blank, match
from dci_jax.blocks import Network, split_index
from dci_jax.defenses.channel import NONE, Channel, behind
from dci_jax.inputs.mixture import Inputs

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
    total_variation_at: tuple[tuple[str, float], ...] = (),
    prior: str = "",
    prior_weight: float = 0.0,
    start: dict[str, Reconstruct] | None = None,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Optimise images for their features; nothing is trained, so this returns at once.

    Args:
      network: the target, known to the attacker.
      inputs, key, folder: not used by this attack.
      splits: split points to be read back.
      steps: updates per batch of images.
      learning_rate: in pixel units of [0, 1]; it falls to zero along a cosine.
      total_variation, total_variation_at: see `matching.Regularizer`.
      prior: "module.path:function" of a prior, see `attacks.matching`; empty: none.
      prior_weight: its weight.
      start: split point -> another attack's reconstruction to start from; None starts from zeros
        with AMSGrad, as published. A start is left with Adam, because AMSGrad keeps the large
        gradients of the first steps in mind and stalls when the start is good.
      channel: the defense that this attacker knows, which is then in the loop: noise by its expectation, rounding
        with straight-through gradients, what dropout left out is not compared.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    del inputs, key, folder
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adam(rate, b2=0.99) if start else optax.amsgrad(rate)
    own = named.function(prior) if prior else None
    regularizer = Regularizer(total_variation, tuple(total_variation_at), own, prior_weight)

    def reconstruct(name, features):
        images = start[name](features) if start else blank(network, len(features))
        known = behind(network, split_index(network, name), channel)
        return match(known, name, features, images, regularizer, optimizer, steps)

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
    """Raise InputError where `total_variation_at` names no split point, or `prior` no function."""
    del splits, shape, settings
    for name, _ in total_variation_at:
        split_index(network, name)
    if prior:
        named.function(prior)
