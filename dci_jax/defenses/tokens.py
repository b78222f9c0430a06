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

MOST = 1024  # tokens: an assignment takes their number to the third
_RIDGE = 1e-3  # of the tokens' mean variance
_SWEEPS = 4  # assignments again, each with the neighbours that the last one gave


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


def shuffle_tokens(params: dict[str, Array], key: Array, features: Tokens, strength: Array) -> Tokens:
    """A random share `strength` of each example's tokens change places among themselves (SARA, arXiv 2609.01232, names it)."""
    count = features.shape[1] * features.shape[2]
    chosen, order = jax.random.uniform(key, (2, len(features), count))
    chosen = chosen < strength
    to = jnp.argsort(jnp.where(chosen, jnp.linspace(0, 1, count), 2), axis=1)
    origin = jnp.argsort(jnp.where(chosen, order, 2 + jnp.linspace(0, 1, count)), axis=1)
    to = jnp.where(jnp.take_along_axis(chosen, to, 1), to, origin)
    at = jnp.zeros_like(to).at[jnp.arange(len(to))[:, None], to].set(origin)
    return _moved(params, features, at)


def drop_tokens(params: dict[str, Array], key: Array, features: Tokens, strength: Array) -> Tokens:
    """Each token of the grid is zero with probability `strength`."""
    kept = jax.random.bernoulli(key, 1 - strength, features.shape[:3])[..., None]
    return jnp.where(params["grid"] > 0, features * kept, features)


def merge_tokens(params: dict[str, Array], key: Array | None, features: Tokens, strength: Array) -> Tokens:
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
    """Puts shuffled tokens back where they belong, as an attacker who has never seen a private image can.

    Each position's tokens are Gaussian around a mean of that position (its embedding's trace) plus a linear map of the tokens
    around it, with one covariance for all. The likeliest assignment is Kuhn's (1955), first by the means alone, then with the
    neighbours that the last assignment gave.

    Attributes:
      params: of the defense.
      alone, beside: (means [N, C], inverse covariance [C, C]) of the tokens, and of what their neighbours leave open.
      neighbours: the map, [4 C, C].
    """

    params: dict[str, Array]
    alone: tuple[Array, Array]
    beside: tuple[Array, Array]
    neighbours: Array

    def __call__(self, received: Tokens) -> Tokens:
        """Features [B, h, w, C] in the likeliest order."""
        shape = received.shape
        at = _assigned(_cost(_flat(self.params, received), *self.alone))
        for _ in range(_SWEEPS):
            found = _moved(self.params, received, at)
            told = _around(_flat(self.params, found), shape) @ self.neighbours
            at = _assigned(_cost(_flat(self.params, received), *self.beside, told))
        return _moved(self.params, received, at)

    @classmethod
    def fit(cls, params: dict[str, Array], batches: Sequence[Tokens]) -> "Positions":
        """Solve it from features of the attacker's own inputs, in their right order."""
        tokens = np.concatenate([np.asarray(_flat(params, f), np.float64) for f in batches])
        around = np.concatenate([np.asarray(_around(_flat(params, f), f.shape), np.float64) for f in batches])
        mean, expected = tokens.mean(0), around.mean(0)
        x, u = ((a - m).reshape(-1, a.shape[-1]) for a, m in ((tokens, mean), (around, expected)))
        gram = u.T @ u
        gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + 1e-12
        neighbours = np.linalg.solve(gram, u.T @ x)
        left = x - u @ neighbours
        found = ((mean, _precision(x)), (mean - expected @ neighbours, _precision(left)))
        alone, beside = jax.tree.map(jnp.float32, found)
        return cls(params, alone, beside, jnp.float32(neighbours))


def _precision(x):
    cov = x.T @ x / len(x)
    cov[np.diag_indices_from(cov)] += _RIDGE * np.trace(cov) / len(cov) + 1e-12
    return np.linalg.inv(cov)


def _flat(params, features):
    """The grid's tokens, [B, N, C], zeros in channels that are not theirs."""
    return (features * params["grid"]).reshape(len(features), -1, features.shape[-1])


def _around(tokens, shape):
    """The four neighbours of each token, [B, N, 4 C], zeros outside."""
    f = jnp.pad(tokens.reshape(shape), ((0, 0), (1, 1), (1, 1), (0, 0)))
    sides = [f[:, :-2, 1:-1], f[:, 2:, 1:-1], f[:, 1:-1, :-2], f[:, 1:-1, 2:]]
    return jnp.concatenate(sides, -1).reshape(len(tokens), tokens.shape[1], -1)


def _cost(tokens, means, precision, told=0.0):
    """Squared distance [B, N, N] of each position's expected token, means + told, from each received one."""
    expected = jnp.broadcast_to(means + told, tokens.shape)
    a, b = expected @ precision, tokens @ precision
    square = jnp.sum(a * expected, -1)[:, :, None] + jnp.sum(b * tokens, -1)[:, None]
    return square - 2 * jnp.einsum("bic,bjc->bij", a, tokens)


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
