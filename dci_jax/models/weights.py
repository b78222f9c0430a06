"""Checkpoints -> parameters: safetensors, or PyTorch's .pth / .th; every key used exactly once, or an error naming it.

The names are torch's (`layer1.0.conv1.weight`), also in the files that this project writes, so one
loader serves all and our files open in PyTorch. Layouts change on the way: OIHW <-> HWIO.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dci_jax.blocks import Network
from dci_jax.errors import InputError

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load(network: Network, path: str | Path, prefix: Callable[[str], str]) -> Network:
    """`network` with the weights of a checkpoint.

    Args:
      network: gives the names and shapes to be filled.
      path: a `.safetensors`, `.pth`, `.pt` or `.th` file; the latter three need torch installed.
      prefix: block name -> what its torch names begin with, such as "layer1.0.".

    Raises:
      InputError: the file is missing, damaged or of unknown kind; a key is missing, left over, or
        of another shape. The message names it.
    """
    path = Path(path)
    tensors = read(path)
    wanted = {}
    for block in _all_blocks(network):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            wanted[torch_name(prefix(block.name), keys)] = leaf
    missing = sorted(wanted.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        raise InputError(
            f"{path} does not hold the weights of {network.name}: "
            + (f"{len(missing)} missing, such as {missing[0]!r}" if missing else "")
            + (" and " if missing and surplus else "")
            + (f"{len(surplus)} left over, such as {surplus[0]!r}" if surplus else "")
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

    def fill(block):
        def leaf(keys, _):
            return jax.numpy.asarray(tensors[torch_name(prefix(block.name), keys)])

        return block.replace(params=jax.tree_util.tree_map_with_path(leaf, block.params))

    blocks = tuple(fill(block) for block in network.blocks)
    return network.replace(blocks=blocks, head=network.head and fill(network.head))


def save(
    network: Network, path: str | Path, prefix: Callable[[str], str], metadata: dict[str, str]
) -> None:
    """Write the network's weights as safetensors, under torch's names; `metadata` goes in the header."""
    tensors = {}
    for block in _all_blocks(network):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            tensors[torch_name(prefix(block.name), keys)] = to_torch(np.asarray(leaf))
    save_file(tensors, path, metadata)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by their torch names, float32, without step counters.

    Raises:
      InputError: the file is missing, damaged, of unknown kind, or torch is needed and absent.
    """
    if not path.is_file():
        raise InputError(f"No checkpoint at {path}; check the path in --config.target.weights.")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path} is damaged or cut short ({error}); fetch it again."
            ) from error
    elif path.suffix in (".pth", ".pt", ".th"):
        tensors = _read_torch(path)
    else:
        raise InputError(
            f"{path} is not a checkpoint that can be read; give a .safetensors, .pth, .pt or .th file."
        )
    return {
        name.removeprefix("module."): np.asarray(tensor, np.float32)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"Reading {path} needs PyTorch: pip install torch, or convert the file to safetensors."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every kind of damage
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged or holds more than weights ({reason}).") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {name: t.numpy() for name, t in content.items() if isinstance(t, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no tensors by name; save the model's state_dict() instead.")
    return tensors


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
