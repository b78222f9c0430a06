"""The nouns: a Network is a tuple of Blocks with frozen parameters; run it from split to split.

Split points are counted by the number of blocks before them: the features at split `k` are
`f_k = F_k(...F_1(f_0))`, with `f_0` the input itself. A split point is named like its last block.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from dci_jax.errors import InputError

Array = jax.Array
Pytree = Any


@flax.struct.dataclass
class Block:
    """One piece `F_i` of a network, with its frozen parameters.

    Attributes:
      params: what `apply` takes first, any pytree. If the block has BatchNorm layers, its entry
        "batch_stats" holds their running statistics (leaves "mean" and "var", each [C]).
      name: the split point behind this block, such as "layer2.1".
      apply: `(params, x) -> (y, statistics)`, a pure function; `statistics` are the batch mean and
        (biased) variance of the inputs of the block's BatchNorm layers, a tree equal to
        `params["batch_stats"]`, or {} where there are none. `jit` prunes them where unused.
      nonnegative: whether the block's *input* is never negative (the output of a ReLU).
    """

    params: Pytree
    name: str = flax.struct.field(pytree_node=False)
    apply: Callable[[Pytree, Array], tuple[Array, Pytree]] = flax.struct.field(pytree_node=False)
    nonnegative: bool = flax.struct.field(pytree_node=False, default=False)


@flax.struct.dataclass
class Network:
    """A target `F = head ∘ F_N ∘ … ∘ F_1`; a pytree whose leaves are the weights.

    Attributes:
      blocks: `F_1 … F_N`; a split point lies behind each.
      head: features f_N -> logits [B, classes]; None for a network that does not classify.
      name: for reports.
      input_shape: shape of one input, such as (32, 32, 3); images are NHWC in [0, 1].
      mean, std: per-channel normalisation of the input, applied before `F_1`.
    """

    blocks: tuple[Block, ...]
    head: Block | None
    name: str = flax.struct.field(pytree_node=False)
    input_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    mean: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.0,))
    std: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(1.0,))


def run(network: Network, x: Array, start: int = 0, stop: int | None = None) -> Array:
    """Features at split `stop` (default: the last) from the features `x` at split `start`."""
    return trace(network, x, start, stop)[0][-1]


def trace(
    network: Network, x: Array, start: int = 0, stop: int | None = None
) -> tuple[tuple[Array, ...], tuple[Pytree, ...]]:
    """All features on the way.

    Args:
      network: the target.
      x: [B, ...] features at split `start`; for `start` 0 the input itself.
      start, stop: splits; `stop` defaults to the last.

    Returns:
      (features, statistics): features `(f_start, …, f_stop)` with `f_start` = `x`, and each block's
      BatchNorm statistics, one entry per block run.
    """
    features, statistics = [x], []
    for index, block in enumerate(network.blocks[start:stop], start):
        if index == 0:
            x = (x - jnp.array(network.mean)) / jnp.array(network.std)
        x, block_statistics = block.apply(block.params, x)
        features.append(x)
        statistics.append(block_statistics)
    return tuple(features), tuple(statistics)


def logits(network: Network, features: Array) -> Array:
    """Class scores [B, classes] from the last features `f_N`."""
    return network.head.apply(network.head.params, features)[0]


def feature_shapes(network: Network) -> tuple[tuple[int, ...], ...]:
    """Shapes of one example's `(f_0, …, f_N)`, without computing anything."""
    x = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    features, _ = jax.eval_shape(trace, network, x)
    return tuple(f.shape[1:] for f in features)


def running_statistics(network: Network) -> tuple[Pytree, ...]:
    """Each block's BatchNorm running statistics, trees equal to those that `trace` returns."""
    return tuple(
        block.params.get("batch_stats", {}) if isinstance(block.params, dict) else {}
        for block in network.blocks
    )


def split_names(network: Network) -> tuple[str, ...]:
    """Names of the split points 1 … N."""
    return tuple(block.name for block in network.blocks)


def split_index(network: Network, name: str) -> int:
    """The `k` of the split point called `name`.

    Raises:
      InputError: no block has that name; the message lists those that there are.
    """
    names = split_names(network)
    if name not in names:
        raise InputError(
            f"{network.name} has no split point {name!r}; choose from: {', '.join(names)}."
        )
    return names.index(name) + 1
