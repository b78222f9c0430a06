"""The file of a chain: tensors and a description in one .safetensors file, with a SHA-256 of both."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dci_jax.errors import InputError, reason
from dci_jax.runtime.digest import sha256_of
from dci_jax.typing import Array

FORMAT, VERSION = "dci_jax chain", 4


def write(path: Path, about: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Write what the file says about itself, which is JSON, and its tensors.

    Raises:
      InputError: the folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} in; create it, or give another path.")
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    about = json.loads(json.dumps({"version": VERSION} | about))
    about["sha256"] = _digest(about, arrays)
    save_file(arrays, path, {"format": FORMAT, "about": json.dumps(about)})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """(what the file says about itself, its tensors).

    Raises:
      InputError: there is no such file, or it is no chain, of another version, damaged, or edited.
    """
    if not os.path.isfile(path):
        raise InputError(f"No chain at {path}; check the path.")
    try:
        with safe_open(path, "numpy") as stream:
            known = stream.metadata() or {}
            if known.get("format") != FORMAT:
                raise InputError(f"{path} is not a chain; give a file that Chain.save wrote.")
            about = dict(json.loads(known["about"]))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, KeyError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}); save the chain again.") from error
    if about.get("version") != VERSION:
        raise InputError(
            f"{path} is a chain of version {about.get('version')}, but this library reads version {VERSION}; solve it again."
        )
    if about.get("sha256") != _digest(about, tensors):
        raise InputError(f"{path} is damaged or was edited (its SHA-256 differs); save the chain again.")
    return about, jax.tree.map(jnp.asarray, tensors)


def _digest(about, arrays):
    """Hash of a file's description and of its tensors: a flipped bit would be a weaker attack, which reads as safety."""
    told = json.dumps({name: value for name, value in about.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256((told + sha256_of(arrays)).encode()).hexdigest()
