"""The divide phase with its inverters spread over the devices: each group of them learns where it lies.

Alone, an inverter needs nothing from the others, so a device that trains only its group keeps only
that group's weights, gradients and Adam moments, and exchanges gradients with the devices of that
group alone. Each group's weights are a row of one matrix, split over the mesh axis "block"; every
step is the same as that of the joint loss, term by term.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dci_jax.runtime import parallel

Array = jax.Array
Pytree = Any


@dataclass(frozen=True)
class Packing:
    """How trees of parameters lie in the rows of a matrix [groups, longest group].

    Attributes:
      groups: for each row the numbers of the trees in it.
      shapes: for each tree its structure and the shapes of its leaves.
    """

    groups: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[Any, tuple[tuple[int, ...], ...]], ...]


def packing(params: tuple[Pytree, ...], count: int) -> Packing:
    """`count` groups of about equal size, the largest tree placed first."""
    shapes = []
    for tree in params:
        leaves, structure = jax.tree.flatten(tree)
        shapes.append((structure, tuple(leaf.shape for leaf in leaves)))
    sizes = [sum(math.prod(shape) for shape in leaves) for _, leaves in shapes]
    groups = [[] for _ in range(count)]
    for tree in sorted(range(len(params)), key=lambda i: -sizes[i]):
        min(groups, key=lambda group: sum(sizes[i] for i in group)).append(tree)
    return Packing(tuple(tuple(sorted(group)) for group in groups), tuple(shapes))


@functools.partial(jax.jit, static_argnums=0)
def pack(how: Packing, params: tuple[Pytree, ...]) -> Array:
    """Trees of float32 -> matrix [groups, longest group], filled up with zeros."""
    rows = [
        jnp.concatenate([leaf.ravel() for i in group for leaf in jax.tree.leaves(params[i])]) for group in how.groups
    ]
    length = max(len(row) for row in rows)
    return jnp.stack([jnp.pad(row, (0, length - len(row))) for row in rows])


@functools.partial(jax.jit, static_argnums=0)
def unpack(how: Packing, matrix: Array) -> tuple[Pytree, ...]:
    """What `pack` was given, on every device."""
    matrix = parallel.constrain(matrix, parallel.copied())
    trees = {}
    for group, row in zip(how.groups, matrix, strict=True):
        trees |= unpack_row(how, group, row)
    return tuple(trees[i] for i in range(len(how.shapes)))


def unpack_row(how: Packing, group: tuple[int, ...], row: Array) -> dict[int, Pytree]:
    """The trees of one group, by their number."""
    trees, start = {}, 0
    for i in group:
        structure, shapes = how.shapes[i]
        leaves = []
        for shape in shapes:
            stop = start + math.prod(shape)
            leaves.append(row[start:stop].reshape(shape))
            start = stop
        trees[i] = jax.tree.unflatten(structure, leaves)
    return trees


def layout(groups: int) -> NamedSharding:
    """Where the rows lie: on as many devices as both `groups` and the devices can be divided by."""
    return parallel.spread(math.gcd(groups, jax.device_count()))


def spread_sum(how: Packing, term: Callable[..., Pytree], matrix: Array, shared: Pytree, batch: Pytree) -> Pytree:
    """sum_i term(i, params_i, shared, batch), each term computed where its parameters lie.

    Args:
      how: the rows of `matrix`.
      term: means over the batch, a tree of scalars.
      matrix: [groups, longest group], as `layout` says.
      shared: arrays that every device holds.
      batch: arrays [B, ...] that are split over the axis "data".
    """
    sharding = layout(len(how.groups))
    blocks = sharding.mesh.shape["block"]
    each = len(how.groups) // blocks  # rows on one device

    def of_row(group, row, shared, batch):
        trees = unpack_row(how, group, row)
        terms = [term(i, tree, shared, batch) for i, tree in trees.items()]
        return jax.tree.map(lambda *values: sum(values), *terms)

    def local(rows, shared, batch):
        # From here on each device has its own; the gradient of that sums over the axis "data".
        rows = jax.lax.pcast(rows, "data", to="varying")
        shared = jax.lax.pcast(shared, ("data", "block"), to="varying")
        batch = jax.lax.pcast(batch, "block", to="varying")
        terms = []
        for place in range(each):
            branches = [functools.partial(of_row, group) for group in how.groups[place::each]]
            arguments = rows[place], shared, batch
            if blocks == 1:  # XLA:CPU is slow inside a branch
                terms.append(branches[0](*arguments))
            else:
                terms.append(jax.lax.switch(jax.lax.axis_index("block"), branches, *arguments))
        total = jax.tree.map(lambda *values: sum(values), *terms)
        return jax.lax.pmean(jax.lax.psum(total, "block"), "data")

    everywhere, rows = PartitionSpec(), PartitionSpec("block")
    specs = (rows, everywhere, PartitionSpec("data"))
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=specs, out_specs=everywhere)(matrix, shared, batch)
