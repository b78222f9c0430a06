"""Reconstruct by optimization: each input's features are matched by gradient or Gauss-Newton steps."""

import jax
import jax.numpy as jnp
import optax

from dci_jax.api.calls import float32
from dci_jax.attacks import factorised, feature_matching
from dci_jax.attacks import gauss_newton as damped
from dci_jax.attacks.feature_matching import ImagePrior, Regularizer
from dci_jax.defenses.channel import NONE, Channel, behind, knowing
from dci_jax.errors import InputError
from dci_jax.inputs.latents import code_prior
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime import progress as shown

Array = jax.Array


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
      features: [B, ...] there.
      start: images [B, H, W, C] in [0, 1], or codes [B, C], to start from; None: a blank image, with AMSGrad as published.
      num_steps: updates; None: 300 from a start, 5000 without.
      learning_rate: Adam's, in pixel units of [0, 1]; it falls to 0 along a cosine.
      total_variation: its weight, relative to the relative feature distance.
      prior: `(network, images) -> [B]`, smaller for likelier images; None: none.
      prior_weight: its weight.
      defense: what the attacker knows that the features went through.
      progress: show it.

    Returns:
      images [B, H, W, C] in [0, 1], or codes [B, C].

    Raises:
      InputError: no such split point, features of another shape, or a loss that is no longer finite.
    """
    features, known = _given(network, split, features), behind(network, split_index(network, split), defense)
    steps = num_steps or (5000 if start is None else 300)
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.amsgrad(rate) if start is None else optax.adam(rate, b2=0.99)
    first = feature_matching.blank(network, len(features)) if start is None else jnp.asarray(start)
    regularizer = Regularizer(total_variation, (), prior, prior_weight)
    with shown.visible(progress), float32():
        return feature_matching.match(known, split, features, first, regularizer, optimizer, steps)


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
      network, split, features, start, defense: as of `optimize`.
      num_steps: of Gauss-Newton.
      num_conjugate: conjugate gradients in each; a latent code's system is solved exactly.
      damping: at the start, relative to the mean square of the Jacobian's columns.
      total_variation: its weight, relative to the relative feature distance.

    Returns:
      images [B, H, W, C] in [0, 1], or codes [B, C].

    Raises:
      InputError: no such split point, features of another shape, or a setting out of range.
    """
    damped.check(
        network,
        (split,),
        (),
        steps=num_steps,
        inner=num_conjugate,
        damping=damping,
        total_variation=(total_variation,),
        held_out=1,
    )
    features, index = _given(network, split, features), split_index(network, split)
    x = feature_matching.blank(network, len(features)) if start is None else jnp.asarray(start)
    with float32():
        if code_prior(network):
            return factorised.solve(network, index, features, x, num_steps, damping)
        known = knowing(behind(network, index, defense), features)
        return damped.solve(known, index, features, x, total_variation, num_steps, num_conjugate, damping)


def _given(network, split, features):
    """The features as a jax.Array, if they have the shape that the network gives."""
    shape = feature_shapes(network)[split_index(network, split)]
    features = jnp.asarray(features)
    if features.shape[1:] != shape:
        raise InputError(
            f"The features have the shape {list(features.shape)}, but {network.name} gives [B, {', '.join(map(str, shape))}] at {split}, channels last."
        )
    return features
