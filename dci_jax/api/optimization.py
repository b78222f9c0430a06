"""Reconstruct by optimization: match each input's features by gradient or Gauss-Newton steps."""

import math

import jax.numpy as jnp
import optax

from dci_jax.api.calls import check_defense, check_values, float32
from dci_jax.arrays import OVERSHOOT, as_features, check_floats, check_range
from dci_jax.attacks import factorised, feature_matching
from dci_jax.attacks import gauss_newton as damped
from dci_jax.attacks.feature_matching import ImagePrior, Regularizer
from dci_jax.defenses.channel import NONE, Channel, with_defense
from dci_jax.errors import InputError, described
from dci_jax.inputs.latents import latent_prior
from dci_jax.network import Network, check_network, feature_shapes, split_index
from dci_jax.runtime import progress as shown
from dci_jax.typing import Array


def optimize(
    network: Network,
    split: str,
    features: Array,
    *,
    start: Array | None = None,
    num_steps: int | None = None,
    learning_rate: float = 0.02,
    total_variation: float = 0.03,
    prior: ImagePrior | None = None,
    prior_weight: float = 0.0,
    defense: Channel = NONE,
    progress: bool = True,
) -> Array:
    """Optimize inputs until their features match: rMLE (He et al., ACSAC 2019), or a refinement of `start`.

    Args:
      network: the target.
      split: the split point.
      features: features at the split point, [B, ...].
      start: images [B, H, W, C] in [0, 1], or latents [B, C], to start from; None: a blank image.
      num_steps: updates; None: 300 from a start, 5000 without.
      learning_rate: initial learning rate of Adam, in pixel units of [0, 1]; decays to 0 on a cosine schedule.
      total_variation: weight of total variation, relative to the relative feature distance.
      prior: `(network, images) -> [B]`, lower for likelier images; None: no prior.
      prior_weight: weight of the prior, above 0 if there is one.
      defense: the defense applied to the features, known to the attacker.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.

    Returns:
      images [B, H, W, C] in [0, 1], or latents [B, C].

    Raises:
      InputError: an unknown split point, features of the wrong shape, or a non-finite loss.
    """
    features = _given(network, split, features, defense)
    known = with_defense(network, split_index(network, split), defense)
    steps = (5000 if start is None else 300) if num_steps is None else num_steps
    check_values(
        num_steps=(steps, "rmle.steps"),
        learning_rate=(learning_rate, "rmle.learning_rate"),
        total_variation=(total_variation, "rmle.total_variation"),
        prior_weight=(prior_weight, "rmle.prior_weight"),
    )
    if (prior is not None) != bool(prior_weight) or not (prior is None or callable(prior)):
        raise InputError(
            f"prior is {described(prior)} and prior_weight {prior_weight:g}; give a function and a weight above 0, or neither."
        )
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adam(rate, b2=0.999 if start is None else 0.99)
    first = _start(network, features, start)
    regularizer = Regularizer(total_variation, (), prior, prior_weight)
    with shown.visible(progress), float32():
        label = f"optimizing after {split}"
        return feature_matching.match(known, split, features, first, regularizer, optimizer, steps, label=label)


def gauss_newton(
    network: Network,
    split: str,
    features: Array,
    *,
    start: Array | None = None,
    num_steps: int = 10,
    num_conjugate: int = 30,
    damping: float = 1e-2,
    total_variation: float = 0.0,
    defense: Channel = NONE,
) -> Array:
    """Take damped Gauss-Newton steps (Levenberg, 1944; Marquardt, 1963) on inputs until their features match.

    Args:
      network, split, features, start, defense: as for `optimize`.
      num_steps: Gauss-Newton steps.
      num_conjugate: conjugate gradient iterations per step; for latents, the system is solved exactly.
      damping: initial damping, relative to the mean square of the Jacobian's columns.
      total_variation: weight of total variation, relative to the relative feature distance.

    Returns:
      images [B, H, W, C] in [0, 1], or latents [B, C].

    Raises:
      InputError: an unknown split point, features of the wrong shape, or a setting out of range.
    """
    check_values(
        num_steps=(num_steps, "gauss_newton.steps"),
        num_conjugate=(num_conjugate, "gauss_newton.inner"),
        damping=(damping, "gauss_newton.damping"),
        total_variation=(total_variation, "rmle.total_variation"),
    )
    features, index = _given(network, split, features, defense), split_index(network, split)
    x = _start(network, features, start)
    with float32():
        if latent_prior(network):
            return factorised.solve(network, index, features, x, num_steps, damping)
        settings = dict(steps=num_steps, inner=num_conjugate, damping=damping)
        return damped.solve(network, index, defense, features, x, total_variation, **settings)


def _start(network, features, start):
    """The starting point [B, ...]: a blank image, the prior's mean, or `start` if its shape is right."""
    if start is None:
        return feature_matching.blank(network, len(features))
    check_floats(start, "start")
    found = jnp.asarray(start, jnp.float32)
    if found.shape != (len(features), *network.input_shape):
        raise InputError(
            f"start has the shape {list(found.shape)}; give one input for each of the features, "
            f"{[len(features), *network.input_shape]}."
        )
    check_range(found, "start", math.inf if latent_prior(network) else OVERSHOOT)
    return found


def _given(network, split, features, defense):
    """The features as a jax.Array, if they have the shape that the network gives and the defense suits them."""
    check_network(network, split)
    check_defense(defense, network, split)
    shape = feature_shapes(network)[split_index(network, split)]
    features = as_features(features)
    if features.shape[1:] != shape:
        raise InputError(
            f"The features have the shape {list(features.shape)}, but {network.name} gives "
            f"[B, {', '.join(map(str, shape))}] at {split}, channels last."
        )
    return features
