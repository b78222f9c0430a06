"""Scores of many inputs, batch by batch, stored in files; and the costs of a split."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.network import Network, feature_shapes, run, running_statistics, split_index, split_names
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.files import read_arrays, replacing
from dci_jax.runtime.flops import flops as count_flops
from dci_jax.typing import Array

_device = jax.jit(run, static_argnums=(2, 3))  # as one program, which is what a device would run


def each(
    file: Path, batch: int, one: Callable[..., dict[str, Array]], *arrays: np.ndarray | Callable[[], np.ndarray]
) -> dict[str, np.ndarray]:
    """Apply `one` batch by batch, and store the concatenated results in files; finished batches are read from them.

    Args:
      file: .npz, made once; until then a folder beside it keeps the batches.
      batch: rows per batch, split across devices.
      one: (a batch of each array, number of its first row) -> arrays [B, ...].
      arrays: each [N, ...], or a function that makes it, called only if there is something to apply `one` to; uint8 pixels are
        passed on as [0, 1].
    """
    folder = file.with_suffix(".parts")
    if not distributed.broadcast(file.exists()):
        arrays = [a() if callable(a) else a for a in arrays]
        for start in range(0, len(arrays[0]), batch):
            part = folder / f"{start:06d}.npz"
            if distributed.broadcast(part.exists()):
                continue
            distributed.stop_if_asked()
            rows = slice(start, start + batch)
            pixels = [a.dtype == np.uint8 for a in arrays]
            seen = [a[rows] / np.float32(255) if p else a[rows] for a, p in zip(arrays, pixels, strict=True)]
            seen = [sharding.put(sharding.padded(a), sharding.batch_sharded()) for a in seen]
            result = sharding.fetch(one(*seen, start))
            if distributed.is_leader():
                with replacing(part, "wb") as stream:
                    np.savez(stream, **{k: v[: len(arrays[0][rows])] for k, v in result.items()})
        if distributed.is_leader():
            parts = [read_arrays(part) for part in sorted(folder.glob("*.npz"))]
            with replacing(file, "wb") as stream:
                np.savez(stream, **{k: np.concatenate([p[k] for p in parts]) for k in parts[0]})
    distributed.barrier(file.name)
    if distributed.is_leader():
        shutil.rmtree(folder, ignore_errors=True)
    return read_arrays(file)


def costs(network: Network, splits: Iterable[str]) -> dict[str, dict[str, int]]:
    """The costs of each split, for one image: `results.COSTS`.

    Bytes sent (float32), parameters, floating-point operations and BatchNorm layers (whose statistics record the
    training images) on the device, and the depth: the share of the network's blocks that run before it.
    """
    shapes, images = feature_shapes(network), jax.ShapeDtypeStruct((2, *network.input_shape), jnp.float32)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), network)
    result = {}
    for name in splits:
        index = split_index(network, name)
        flops = count_flops(_device.trace(abstract, images, 0, index)) / 2
        result[name] = {
            "bytes_sent": 4 * int(np.prod(shapes[index])),
            "device_flops": int(flops),
            "depth": round(index / len(network.blocks), 4),
            "device_parameters": sum(leaf.size for leaf in jax.tree.leaves(network.blocks[:index])),
            "batch_norms": len(jax.tree.leaves(running_statistics(network)[:index])) // 2,
        }
    return result


def evenly_spaced(network: Network, count: int) -> tuple[str, ...]:
    """`count` of a network's split points, evenly spaced by the operations of the device up to them, including the first and the last."""
    names = split_names(network)
    if not 0 < count < len(names):
        return names
    flops = np.array([cost["device_flops"] for cost in costs(network, names).values()])
    wanted = np.linspace(flops[0], flops[-1], count) if count > 1 else [(flops[0] + flops[-1]) / 2]
    taken: list[int] = []
    for number, value in enumerate(wanted):
        free = range(taken[-1] + 1 if taken else 0, len(names) - (count - number - 1))
        taken.append(min(free, key=lambda i: abs(flops[i] - value)))
    return tuple(names[i] for i in taken)


def latency(network: Network, image: np.ndarray, fitted: dict[str, Callable]) -> dict[str, dict[str, float]]:
    """{split: {"device_ms", "attack_ms"}}: the median of ten runs for one image [1, H, W, C] on this machine, compiled."""
    result = {}
    for split, reconstruct in fitted.items():
        index = split_index(network, split)
        features = _device(network, image, 0, index)
        result[split] = {
            "device_ms": _milliseconds(lambda x, index=index: _device(network, x, 0, index), image),
            "attack_ms": _milliseconds(reconstruct, features),
        }
    return result


def _milliseconds(function, x):
    jax.block_until_ready(function(x))
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        taken.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(taken)), 3)
