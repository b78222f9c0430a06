"""One mesh over all devices of all hosts, and how arrays lie on it: in copies, or split along their first axis.

`jax.jit` partitions a program by the shardings of its arguments, so the same functions run on one device
or on many. Nothing else in this package names a mesh.
"""

import functools
import logging
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dci_jax.typing import Array, Pytree

log = logging.getLogger("dci_jax")


@functools.cache
def mesh() -> Mesh:
    """All devices of all processes, along one axis, "data"."""
    # In the order of the processes, so that each has one piece of a batch to read.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """Every device holds the whole array: weights, and anything that is the same for all images."""
    return NamedSharding(mesh(), PartitionSpec())


def batch_sharded() -> NamedSharding:
    """Every device holds its share of the first axis: images, and whatever there is one of per image."""
    return NamedSharding(mesh(), PartitionSpec("data"))


def fitting(leaf: Array, sharding: NamedSharding) -> NamedSharding:
    """`sharding`, or copies where the array cannot be cut evenly: a scalar, or 10 images on 8 devices."""
    axis = sharding.spec[0] if sharding.spec else None
    even = axis is None or (leaf.ndim and leaf.shape[0] % sharding.mesh.shape[axis] == 0)
    return sharding if even else NamedSharding(sharding.mesh, PartitionSpec())


def put(tree: Pytree, sharding: NamedSharding) -> Pytree:
    """The same arrays on the mesh, each `fitting` there. What every process gives must be equal."""

    def place(leaf):
        target = fitting(leaf, sharding)
        if jax.process_count() == 1 or not getattr(leaf, "is_fully_addressable", True):
            return jax.device_put(leaf, target)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, target, whole.__getitem__)

    return jax.tree.map(place, tree)


def put_local(rows: np.ndarray, count: int) -> Array:
    """The array [count, ...] split along its first axis, of which this process has its own `rows` only.

    Args:
      rows: as many as `local_rows(count)` says, in the order of the processes.
      count: the rows of all processes.
    """
    shape = (count, *rows.shape[1:])
    if len(rows) == count:
        return put(rows, batch_sharded())
    return jax.make_array_from_process_local_data(batch_sharded(), rows, shape)


def local_rows(count: int) -> tuple[int, int]:
    """(how many of `count` rows a process reads for `put_local`, which share is its own).

    (count, 0), all of them, where they cannot be cut evenly.
    """
    if count % jax.device_count():
        return count, 0
    return count // jax.process_count(), jax.process_index()


def constrain(tree: Pytree, sharding: NamedSharding) -> Pytree:
    """Inside `jit`: let the compiler lay these arrays so; uneven shares are padded by it. Scalars stay."""

    def lay(leaf):
        return jax.lax.with_sharding_constraint(leaf, sharding) if leaf.ndim else leaf

    return jax.tree.map(lay, tree)


def summed(function: Callable[..., Pytree], *arrays: Array) -> Pytree:
    """Inside `jit`: the sum over the devices of what `function` makes of their shares of `arrays`, by one all-reduce.

    Arrays that cannot be cut evenly are not cut.
    """
    if mesh().size == 1 or any(len(array) % mesh().size for array in arrays):
        return function(*arrays)

    def local(*shares):
        return jax.lax.psum(function(*shares), "data")

    spec = PartitionSpec("data")
    return jax.shard_map(local, mesh=mesh(), in_specs=spec, out_specs=PartitionSpec())(*arrays)


def fetch(tree: Pytree) -> Pytree:
    """The arrays as NumPy arrays, whole, on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.device_get(_copies(tree))


def on_first_device(tree: Pytree) -> Pytree:
    """The arrays, whole, on the first device of this process alone."""
    copies = tree if jax.device_count() == 1 else _copies(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), copies)


@jax.jit
def _copies(tree):
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, replicated()), tree)


def warn_if_uneven(field: str, count: int, splits: int = 1) -> None:
    """Say so where the devices cannot share `count` inputs, those of so many `splits` together, evenly: some then wait."""
    devices = jax.device_count()
    if devices > 1 and count % (splits * devices):
        log.warning(
            "%s=%d is not shared evenly by %d devices%s; a multiple of %d is faster",
            field,
            count,
            devices,
            f" at {splits} splits" if splits > 1 else "",
            splits * devices,
        )


def padded(rows: np.ndarray) -> np.ndarray:
    """`rows` with its last one repeated until the devices can share them evenly: an uneven last batch."""
    missing = -len(rows) % jax.device_count()
    return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows
