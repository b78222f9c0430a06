"""Networks as tuples of Blocks with frozen parameters, which run from any split point to another.

Split points are counted by the number of blocks before them: the features at split `k` are
`f_k = F_k(...F_1(f_0))`, with `f_0` the input itself. A split point is named after the block before it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.arrays import OVERSHOOT, check_floats, check_range
from dci_jax.cpu_kernels.materialize import materialize
from dci_jax.errors import InputError, reason
from dci_jax.runtime.compile_ahead import program
from dci_jax.tensors import Layout
from dci_jax.typing import Array, Pytree


@flax.struct.dataclass
class Block:
    """One block `F_i` of a network, with its frozen parameters.

    Attributes:
      params: first argument of `apply`, any pytree. If the block has BatchNorm layers, its entry
        "batch_stats" holds their running statistics (leaves "mean" and "var", each [C]).
      name: the split point after this block, such as "layer2.1".
      apply: `(params, x) -> (y, statistics)`, a pure function; `statistics` are the batch mean and
        (biased) variance of the inputs of the block's BatchNorm layers, a tree equal to
        `params["batch_stats"]`, or {} if it has none. `jit` prunes them if unused.
      nonnegative: whether the block's *input* is never negative (the output of a ReLU).
      stages: functions like `apply`, of the same params, whose composition is `apply`; all but the first take a ReLU's output:
        a convolution and the pooling after it (`dci.blocks.split_stages`); () for a block of one stage.
      tensors: if several tensors are sent after the block, their layout in its one array (`tensors.layout`); else ().
      beside: channels, the last ones, that hold tokens from outside the grid, such as a class token (`importers.program.to_grid`).
      sends: transform of the block's features before they are sent, a pytree with `__call__` (`defenses.channel.with_defense`);
        None: no transform.
    """

    params: Pytree
    name: str = flax.struct.field(pytree_node=False)
    apply: Callable[[Pytree, Array], tuple[Array, Pytree]] = flax.struct.field(pytree_node=False)
    nonnegative: bool = flax.struct.field(pytree_node=False, default=False)
    stages: tuple[Callable[[Pytree, Array], tuple[Array, Pytree]], ...] = flax.struct.field(
        pytree_node=False, default=()
    )
    tensors: Layout = flax.struct.field(pytree_node=False, default=())
    beside: int = flax.struct.field(pytree_node=False, default=0)
    sends: Pytree = None


@flax.struct.dataclass
class Network:
    """A target `F = head ∘ F_N ∘ … ∘ F_1`; a pytree whose leaves are the weights.

    Attributes:
      blocks: `F_1 … F_N`; a split point follows each.
      head: features f_N -> logits [B, classes]; None for a network that does not classify.
      name: name in reports.
      input_shape: shape of one input, such as (32, 32, 3) for an image, NHWC in [0, 1], or (128,) for a
        generator's latent.
      mean, std: per-channel normalisation of the input, applied before `F_1`.
      crop: side of the square center crop of a picture, as a fraction of its shorter side; as in the
        network's original evaluation.
      dtype: compute dtype of the blocks; see `with_dtype`.
      latent: for a generator, the prior of its latents, a key of `latents.LATENTS`; "" if the input
        is an image.
    """

    blocks: tuple[Block, ...]
    head: Block | None
    name: str = flax.struct.field(pytree_node=False)
    input_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    mean: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(0.0,))
    std: tuple[float, ...] = flax.struct.field(pytree_node=False, default=(1.0,))
    crop: float = flax.struct.field(pytree_node=False, default=1.0)
    dtype: str = flax.struct.field(pytree_node=False, default="float32")
    latent: str = flax.struct.field(pytree_node=False, default="")

    def __repr__(self) -> str:
        names = ", ".join(split_names(self))
        return f"Network({self.name}, inputs {list(self.input_shape)}, split points {names})"


def check_network(network: Any, split: Any = "") -> None:
    """Raise InputError unless `network` is one and `split` a name: public functions are given anything."""
    if not isinstance(network, Network):
        raise InputError(
            f"network is a {type(network).__name__}; give what load_network, sequential or from_jax returns."
        )
    if not isinstance(split, str):
        raise InputError(f"split is a {type(split).__name__}; give a name, such as {network.blocks[0].name!r}.")


def run(network: Network, x: Float[Array, "B ..."], start: int = 0, stop: int | None = None) -> Float[Array, "B ..."]:
    """Features at split `stop` (default: the last) from the features `x` at split `start`."""
    return trace(network, x, start, stop)[0][-1]


def features_at(network: Network, split: str | int, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Compute the device's features [B, ...] of inputs [B, ...].

    Compiled block by block: split points share programs, as do networks that differ only in later blocks.

    Args:
      network: the target.
      split: the split point's name, or the number of blocks before it; 0 gives the inputs themselves.
      x: images [B, H, W, C] in [0, 1], or latents [B, C].

    Raises:
      InputError: an unknown split point, no input, or inputs of the wrong shape, type or range.
    """
    number = isinstance(split, int) and not isinstance(split, bool)
    check_network(network, "" if number and 0 <= split <= len(getattr(network, "blocks", ())) else split)
    check_floats(x, "x")
    if x.shape[1:] != network.input_shape:
        raise InputError(
            f"The inputs have the shape {list(x.shape)}, but {network.name} takes [B, {', '.join(map(str, network.input_shape))}]; "
            "for images of another size, dci_jax.with_side gives a network that takes them."
        )
    check_range(x := jnp.asarray(x), "x", math.inf if network.latent else OVERSHOOT)
    if isinstance(split, str):
        split = split_index(network, split)
    return first_blocks(network, split, x)


def first_blocks(network: Network, count: int, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Features after the first `count` blocks; as `features_at`, of inputs that need no check."""
    with jax.default_matmul_precision("highest"):
        for number in range(count):
            x = _run(single_block(network, number), x)
    return x


def trace(
    network: Network, x: Float[Array, "B ..."], start: int = 0, stop: int | None = None
) -> tuple[tuple[Array, ...], tuple[Pytree, ...]]:
    """All features from split `start` to split `stop`.

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
        x, block_statistics = _apply(_alike(block).replace(sends=None), x.astype(network.dtype))
        x = materialize(x if block.sends is None else block.sends(x))
        features.append(x)
        statistics.append(block_statistics)
    return tuple(features), tuple(statistics)


def _alike(block: Block) -> Block:
    """Without what its function does not depend on, so that identical blocks share what is traced, lowered and compiled."""
    return block.replace(name="", nonnegative=False, stages=())


@jax.jit  # a block is traced and lowered once, for all its repetitions and all the programs that contain it
def _apply(block, x):
    return block.apply(block.params, x)


def single_block(network: Network, index: int) -> Network:
    """Block `index` as a network of its own, without its name, so that identical blocks share compiled programs."""
    mean, std = (network.mean, network.std) if index == 0 else ((0.0,), (1.0,))
    block = _alike(network.blocks[index])
    return network.replace(blocks=(block,), head=None, mean=mean, std=std)


def pieces(network: Network, index: int) -> tuple[Network, ...]:
    """`single_block` and, if the block has one, its `sends` as a second network: the block's program serves all defenses."""
    whole = single_block(network, index)
    (block,) = whole.blocks
    if block.sends is None:
        return (whole,)
    sending = Block({}, "", _unchanged, sends=block.sends)
    plain = {"mean": (0.0,), "std": (1.0,)}
    return whole.replace(blocks=(block.replace(sends=None),)), whole.replace(blocks=(sending,), **plain)


def _unchanged(params, x):
    return x, {}


_run = program(run)


def logits(network: Network, features: Float[Array, "B ..."]) -> Float[Array, "B classes"]:
    """Class scores [B, classes], float32, from the last features `f_N`."""
    return network.head.apply(network.head.params, features)[0].astype(jnp.float32)


def with_side(network: Network, side: int | tuple[int, int]) -> Network:
    """The network for images [side, side, C], or (height, width); convolutions take images of any size.

    Raises:
      InputError: the network takes latents, or only images of its own size.
    """
    check_network(network)
    sides = side if isinstance(side, tuple) else (side, side)
    if len(sides) != 2 or not all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sides):
        given = side if isinstance(side, int | tuple) else f"a {type(side).__name__}"
        raise InputError(f"side is {given}; give a number of pixels, or (height, width).")
    if len(network.input_shape) != 3:
        raise InputError(f"target.side is {side}, but {network.name} takes inputs {network.input_shape}; give 0.")
    larger = network.replace(input_shape=(*sides, network.input_shape[2]))
    try:
        feature_shapes(larger), classes(larger)
    except Exception as error:  # any exception: blocks are arbitrary functions
        raise InputError(
            f"target.side is {side}, but {network.name} does not take images of {side} pixels ({reason(error)}); give 0 for "
            f"its own {network.input_shape[0]}."
        ) from error
    return larger


def with_dtype(network: Network, dtype: str) -> Network:
    """The network computing in `dtype` ("bfloat16" for mixed precision, or "float32").

    Casts kernels, their biases and the activations between layers; BatchNorm parameters and statistics
    stay float32.
    """

    def cast(tree):
        if isinstance(tree, dict) and "kernel" not in tree:
            return {name: value if name == "batch_stats" else cast(value) for name, value in tree.items()}
        matrices = isinstance(tree, dict)
        return jax.tree.map(lambda w: w.astype(dtype) if (matrices or w.ndim > 1) and _floats(w) else w, tree)

    blocks = tuple(block.replace(params=cast(block.params)) for block in network.blocks)
    head = network.head and network.head.replace(params=cast(network.head.params))
    return network.replace(blocks=blocks, head=head, dtype=dtype)


def _floats(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def feature_shapes(network: Network) -> tuple[tuple[int, ...], ...]:
    """Shapes of one example's `(f_0, …, f_N)`, without computing anything."""
    leaves, structure = jax.tree.flatten(network.replace(head=None))
    return _feature_shapes(structure, tuple(map(jax.typeof, leaves)))


@functools.lru_cache(maxsize=128)
def _feature_shapes(structure, leaves):
    network = jax.tree.unflatten(structure, leaves)
    x, shapes = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32), [network.input_shape]
    for index, block in enumerate(network.blocks):
        shape = np.broadcast_shapes(x.shape, np.shape(network.mean)) if index == 0 else x.shape
        # Block by block, as equal ones are traced once.
        x, _ = _apply.eval_shape(_alike(block).replace(sends=None), jax.ShapeDtypeStruct(shape, network.dtype))
        shapes.append(x.shape[1:])
    return tuple(shapes)


def classes(network: Network) -> int | None:
    """Number of classes of the head; None without a head."""
    if network.head is None:
        return None
    x = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    return jax.eval_shape(lambda n, x: logits(n, run(n, x)), network, x).shape[1]


def running_statistics(network: Network) -> tuple[Pytree, ...]:
    """Each block's BatchNorm running statistics, trees equal to those that `trace` returns."""
    return tuple(
        block.params.get("batch_stats", {}) if isinstance(block.params, dict) else {} for block in network.blocks
    )


def split_names(network: Network) -> tuple[str, ...]:
    """Names of the split points 1 … N."""
    check_network(network)
    return tuple(block.name for block in network.blocks)


def split_index(network: Network, name: str) -> int:
    """The `k` of the split point called `name`.

    Raises:
      InputError: no block has that name; the message lists the split points.
    """
    names = split_names(network)
    if name not in names:
        raise InputError(f"{network.name} has no split point {name!r}; choose from: {', '.join(names)}.")
    return names.index(name) + 1
