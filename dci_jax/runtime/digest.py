"""The sha256 of a pytree of arrays: names, types, shapes and numbers."""

import hashlib
from typing import Any

import jax
import numpy as np


def sha256_of(tree: Any) -> str:
    """Hexadecimal digest of all leaves with their paths."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
