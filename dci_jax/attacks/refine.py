"""Refine another attack's reconstruction: optimise it until its features match, as rMLE does from a blank image.

How much the features leave to a prior depends on the split point: .03 of total variation is best in the first stage of a
ResNet-20 and 1 to 3 in its last (docs/notes/deep.md). So the weight is chosen at each split point on procedural images, and with
it the share of the way from the start, which may be none of it.
"""

import functools
from pathlib import Path
from typing import Any

import optax

from dci_jax import import_from_string
from dci_jax.attacks import rmle
from dci_jax.attacks.feature_matching import Regularizer, held_out, match
from dci_jax.attacks.selection import choose
from dci_jax.defenses.channel import NONE, Channel, sent, with_defense
from dci_jax.errors import InputError
from dci_jax.inputs.latents import latent_prior
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, split_index
from dci_jax.typing import Array, Reconstruct


def refine(
    network: Network,
    inputs: Prior | None,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    steps: int,
    learning_rate: float,
    total_variation: tuple[float, ...],
    num_validation: int,
    start: dict[str, Reconstruct],
    prior: str = "",
    prior_weight: float = 0.0,
    channel: Channel = NONE,
) -> dict[str, Reconstruct]:
    """Optimise reconstructions for their features; nothing is trained.

    Args:
      network: the target, known to the attacker.
      inputs, key: its procedural images select among `total_variation`; unused for latents.
      splits: split points to reconstruct from.
      folder: keeps the selection at each split; unused where nothing is selected.
      steps: updates per batch of images.
      learning_rate: initial learning rate, in pixel units of [0, 1]; decays to zero on a cosine schedule.
      total_variation: candidate weights of total variation, relative to the relative feature distance; of one alone nothing is
        selected but the share, behind a defense.
      num_validation: procedural images for the selection.
      start: split point -> another attack's reconstruction.
      prior: "module.path:function" of a prior, see `attacks.feature_matching`; empty: none.
      prior_weight: weight of the prior.
      channel: the defense that this attacker knows, simulated in the loss: noise by its expectation, rounding
        with straight-through gradients, dropped values by what is known of them (`defenses.comparison`).

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1].
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b2=0.99)
    own = import_from_string.function(prior) if prior else None

    def reconstruct(name, weight, part, features):
        first = start[name](features)
        known = with_defense(network, split_index(network, name), channel)
        found = match(known, name, features, first, Regularizer(weight, (), own, prior_weight), optimizer, steps)
        return first + part * (found - first) if part < 1 else found

    chosen = dict.fromkeys(splits, (total_variation[0], 1.0))
    if not latent_prior(network) and (len(total_variation) > 1 or channel.kind != "none"):
        truth = held_out(network, inputs, key, num_validation)
        for name in splits:
            received = sent(network, split_index(network, name), channel, key, truth)
            read = functools.partial(reconstruct, name, part=1.0, features=received)
            label = f"refine after {name}, {channel.label}"
            chosen[name] = choose(folder / f"{name}.json", label, truth, start[name](received), total_variation, read)
    return {name: functools.partial(reconstruct, name, *chosen[name]) for name in splits}


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    total_variation: tuple[float, ...],
    prior: str = "",
    **settings: Any,
) -> None:
    """Raise InputError if there is no weight of total variation, or `prior` is not a valid function."""
    if not total_variation:
        raise InputError("refine.total_variation is (); give one or more weights of 0 or more.")
    rmle.check(network, splits, shape, prior=prior, **settings)
