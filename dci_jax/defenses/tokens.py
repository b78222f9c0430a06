"""Defenses that change which position, or which token, a feature vector is: shuffled, dropped and merged tokens; and their undoing.

A token is the feature vector of one position. Tokens from outside the grid, such as a class token, lie in channels of their own
(`network.Block.beside`) and stay as they are. Every function that sends is `(params, key, features [B, h, w, C], strength) -> [B, h, w, C]`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax.assignment
from jaxtyping import Float, Int

from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes
from dci_jax.typing import Array

Tokens = Float[Array, "B h w C"]

MOST = 576  # tokens, of 24 x 24: an assignment takes their number to the third, seconds for each image beyond
_RIDGE = 1e-3  # of the tokens' mean variance


def check_grid(shape: tuple[int, ...]) -> None:
    """Raise InputError unless features of this shape have tokens, few enough to be assigned to each other."""
    count = math.prod(shape[:-1])
    if len(shape) != 3 or not 1 < count <= MOST:
        raise InputError(
            f"The features have the shape {list(shape)}, of {count} tokens; defenses of tokens take [h, w, C] of 2 to {MOST}: choose "
            "another split point or defense."
        )


def grid_channels(
    network: Network, index: int, strength: float, batches: Callable, key: Array | None, folder: Path, steps: int
) -> dict[str, Array]:
    """Which channels belong to the tokens of the grid: nothing is learned."""
    channels = feature_shapes(network)[index][-1]
    return {"grid": jnp.float32(np.arange(channels) < channels - network.blocks[index - 1].beside)}


def first(several: list[Tokens]) -> Tokens:
    """An attacker's combination of several queries in unknown orders: one of them tells all."""
    return several[0]


def shuffle_tokens(params: dict[str, Array], key: Array, features: Tokens, strength: Array | float) -> Tokens:
    """A random share `strength` of each example's tokens change places among themselves (SARA, arXiv 2609.01232, names it)."""
    count = features.shape[1] * features.shape[2]
    chosen, order = jax.random.uniform(key, (2, len(features), count))
    chosen = chosen < strength
    to = jnp.argsort(jnp.where(chosen, jnp.linspace(0, 1, count), 2), axis=1)
    origin = jnp.argsort(jnp.where(chosen, order, 2 + jnp.linspace(0, 1, count)), axis=1)
    to = jnp.where(jnp.take_along_axis(chosen, to, 1), to, origin)
    at = jnp.zeros_like(to).at[jnp.arange(len(to))[:, None], to].set(origin)
    return _moved(params, features, at)


def drop_tokens(params: dict[str, Array], key: Array, features: Tokens, strength: Array | float) -> Tokens:
    """Each token of the grid is zero with probability `strength`."""
    kept = jax.random.bernoulli(key, 1 - strength, features.shape[:3])[..., None]
    return jnp.where(params["grid"] > 0, features * kept, features)


def merge_tokens(params: dict[str, Array], key: Array | None, features: Tokens, strength: Array | float) -> Tokens:
    """The share `strength` of the most similar pairs of tokens become their means (ToMe, Bolya et al., ICLR 2023).

    Tokens at even places of a chessboard are each compared with all at odd places, as there; both keep their places.
    """
    height, width = features.shape[1:3]
    tokens = (features * params["grid"]).reshape(len(features), height * width, -1)
    odd = (np.add.outer(np.arange(height), np.arange(width)) % 2).reshape(-1)
    unit = tokens / (jnp.linalg.norm(tokens, axis=-1, keepdims=True) + 1e-12)
    likeness = jnp.einsum("bic,bjc->bij", unit[:, odd == 0], unit[:, odd == 1])
    best, partner = jnp.max(likeness, 2), jnp.argmax(likeness, 2)
    merged = best >= jnp.quantile(best, 1 - strength, axis=1, keepdims=True)
    group = jax.nn.one_hot(partner, likeness.shape[2]) * merged[..., None]  # [B, even, odd]
    size = 1 + jnp.sum(group, 1)
    mean = (tokens[:, odd == 1] + jnp.einsum("bij,bic->bjc", group, tokens[:, odd == 0])) / size[..., None]
    even = jnp.where(merged[..., None], jnp.take_along_axis(mean, partner[..., None], 1), tokens[:, odd == 0])
    found = jnp.zeros_like(tokens).at[:, odd == 1].set(mean).at[:, odd == 0].set(even)
    return jnp.where(params["grid"] > 0, found.reshape(features.shape), features)


def best_order(
    params: dict[str, Array],
    features: Tokens,
    strength: Array | float,
    received: Tokens | None,
    num_queries: Array | float,
) -> Tokens:
    """`Defense.expected` of `shuffle_tokens`: the tokens in the order in which they are nearest to the received ones."""
    if received is None:
        mean = jnp.mean(features, (1, 2), keepdims=True)
        return jnp.where(params["grid"] > 0, features + strength * (mean - features), features)
    guess, seen = (_flat(params, jax.lax.stop_gradient(f)) for f in (features, received))
    distance = jnp.sum(seen**2, -1)[:, :, None] - 2 * jnp.einsum("bic,bjc->bij", seen, guess)
    return _moved(params, features, _assigned(distance + jnp.sum(guess**2, -1)[:, None]))


@flax.struct.dataclass
class Positions:
    """Puts shuffled tokens back where they belong, as an attacker can who has never seen a private image.

    The tokens of a position are Gaussian around a mean of that position, which its embedding leaves, with one covariance for all. The
    likeliest assignment is Kuhn's (1955). Where a position leaves no trace, as in a convolution, it tells next to nothing.

    Attributes:
      params: of the defense.
      means: of the tokens, [N, C].
      precision: inverse of their covariance, [C, C].
    """

    params: dict[str, Array]
    means: Array
    precision: Array

    def __call__(self, received: Tokens) -> Tokens:
        """Features [B, h, w, C] in the likeliest order."""
        tokens = _flat(self.params, received)
        expected, found = self.means @ self.precision, tokens @ self.precision
        square = jnp.sum(expected * self.means, -1)[:, None] + jnp.sum(found * tokens, -1)[:, None]
        return _moved(self.params, received, _assigned(square - 2 * jnp.einsum("ic,bjc->bij", expected, tokens)))

    @classmethod
    def fit(cls, params: dict[str, Array], batches: Sequence[Tokens]) -> "Positions":
        """Solve it from features of the attacker's own inputs, in their right order."""
        tokens = np.concatenate([np.asarray(_flat(params, f), np.float64) for f in batches])
        left = (tokens - tokens.mean(0)).reshape(-1, tokens.shape[-1])
        covariance = left.T @ left / len(left)
        covariance[np.diag_indices_from(covariance)] += _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
        return cls(params, jnp.float32(tokens.mean(0)), jnp.float32(np.linalg.inv(covariance)))


def _flat(params, features):
    """The grid's tokens, [B, N, C], zeros in channels that are not theirs."""
    return (features * params["grid"]).reshape(len(features), -1, features.shape[-1])


def _assigned(cost) -> Int[Array, "B N"]:
    """For each row, its column, so that the sum is least."""

    def one(cost):
        row, column = optax.assignment.hungarian_algorithm(cost)
        return jnp.zeros(len(cost), int).at[row].set(column)

    return jax.vmap(one)(cost)


def _moved(params, features, at):
    """Tokens of the grid from the positions `at` [B, N]."""
    flat = features.reshape(len(features), -1, features.shape[-1])
    found = jnp.take_along_axis(flat, at[..., None], 1).reshape(features.shape)
    return jnp.where(params["grid"] > 0, found, features)
