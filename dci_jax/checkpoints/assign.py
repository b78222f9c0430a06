"""A checkpoint's tensors -> parameters, every key used exactly once, or an error naming it; and back.

The names are torch's (`layer1.0.conv1.weight`), also in the files that this project writes, so one
loader serves all and our files open in PyTorch. Layouts change on the way: OIHW <-> HWIO.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from dci_jax.checkpoints.read import read, without_prefix
from dci_jax.errors import InputError
from dci_jax.network import Network

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_LARGEST = 1e8  # of any weight or statistic; one flipped bit of an exponent makes 1e18 of a 0.05


def load(
    network: Network, path: str | Path, prefix: Callable[[str], str], sha256: str = "", weights_key: str = ""
) -> Network:
    """`network` with the weights of a checkpoint.

    Args:
      network: gives the names and shapes to be filled.
      path: of the file, see `read`.
      prefix: block name -> what its torch names begin with, such as "layer1.0.".
      sha256, weights_key: see `read`.

    Raises:
      InputError: the file cannot be read (see `read`); a key is missing, left over, or of another
        shape; a value is not finite or beyond all that is trained, a variance negative, a layer 0 everywhere. The
        message names it.
    """
    tensors = read(path, sha256, weights_key)
    wanted = {}
    for block in _all_blocks(network):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            wanted[torch_name(prefix(block.name), keys)] = leaf
    tensors = without_prefix(tensors, wanted, path)
    missing = sorted(wanted.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        raise InputError(
            f"{path} does not hold the weights of {network.name}: "
            + (f"{len(missing)} missing, such as {_some(missing)}" if missing else "")
            + (" and " if missing and surplus else "")
            + (f"{len(surplus)} left over, such as {_some(surplus)}" if surplus else "")
            + "; give the checkpoint of this architecture and depth."
        )
    for name, leaf in wanted.items():
        tensors[name] = from_torch(tensors[name])
        if tensors[name].shape != leaf.shape:
            raise InputError(
                f"{path}: {name!r} has shape {tensors[name].shape} after the change of layout, but "
                f"{network.name} needs {leaf.shape}; give the checkpoint of this architecture."
            )
        if not np.all(np.isfinite(tensors[name])):
            raise InputError(f"{path}: {name!r} holds NaN or infinity; fetch the file again.")
        largest = np.max(np.abs(tensors[name]))
        if largest > _LARGEST:
            raise InputError(
                f"{path}: {name!r} holds {largest:.3g}, and nothing trained is that large: a damaged bit; fetch the file "
                "again."
            )
        if largest == 0 and (leaf.ndim > 1 or name.endswith("running_var")):
            raise InputError(
                f"{path}: {name!r} is 0 everywhere, so that no feature says anything; give the checkpoint of a trained "
                "network."
            )
        if name.endswith("running_var") and np.min(tensors[name]) < 0:
            raise InputError(
                f"{path}: {name!r} holds {np.min(tensors[name]):.3g}, but no variance is negative; "
                "fetch the file again."
            )

    def fill(block):
        def leaf(keys, _):
            return jax.numpy.asarray(tensors[torch_name(prefix(block.name), keys)])

        return block.replace(params=jax.tree_util.tree_map_with_path(leaf, block.params))

    blocks = tuple(fill(block) for block in network.blocks)
    return network.replace(blocks=blocks, head=network.head and fill(network.head))


def save(
    network: Network,
    path: str | Path,
    prefix: Callable[[str], str],
    metadata: dict[str, str],
    dtype: str = "float32",
) -> None:
    """Write the network's weights as safetensors, under torch's names; `metadata` goes in the header."""
    tensors = {}
    for block in _all_blocks(network):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            tensors[torch_name(prefix(block.name), keys)] = to_torch(np.asarray(leaf, dtype))
    save_file(tensors, path, metadata)


def _some(names):
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def torch_name(prefix: str, keys: tuple) -> str:
    """`("params", "conv1", "kernel")` -> prefix + "conv1.weight"."""
    _, *modules, leaf = [key.key for key in keys]
    return prefix + ".".join([*modules, _LEAVES[leaf]])


def from_torch(tensor: np.ndarray) -> np.ndarray:
    """Convolution OIHW -> HWIO, linear [out, in] -> [in, out], the rest as it is."""
    return tensor.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim, range(tensor.ndim)))


def to_torch(tensor: np.ndarray) -> np.ndarray:
    """The inverse of `from_torch`."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(tensor.ndim, range(tensor.ndim))
    return np.ascontiguousarray(tensor.transpose(axes))


def _all_blocks(network):
    return network.blocks + ((network.head,) if network.head else ())
