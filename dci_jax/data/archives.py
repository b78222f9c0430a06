"""Archives by strangers: members of a zip and arrays of an npz, read within bounds; nothing is unpacked to disk or executed."""

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from dci_jax.errors import InputError, reason
from dci_jax.runtime import distributed

MEMBER = 256 * 2**20  # bytes that one picture's file may have
# What zipfile and numpy answer damage with: RuntimeError for encrypted members and rare compressions, the last two for headers.
DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError, RuntimeError),
    *(SyntaxError, tokenize.TokenError),
)


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of a zip.

    Raises:
      ValueError: it is damaged, encrypted, or would be larger than `MEMBER`; the reason.
    """
    size = archive.getinfo(name).file_size
    if size > MEMBER:
        raise ValueError(f"{size / 2**20:.0f} MiB, where a picture may have {MEMBER / 2**20:.0f}")
    try:
        with archive.open(name) as stream:
            content = stream.read(MEMBER + 1)
    except DAMAGE as error:
        raise ValueError(f"damaged in the archive ({reason(error)})") from error
    if len(content) > MEMBER:
        raise ValueError("larger than it says")
    return content


def arrays(path: Path, names: tuple[str, ...], cure: str) -> dict[str, np.ndarray]:
    """Those of an npz's arrays that are there, checked by arithmetic before anything is allocated.

    Args:
      path: the file.
      names: of the arrays that are wanted.
      cure: what to do, for messages.

    Raises:
      InputError: it is damaged or no npz, holds objects, or an array claims more than its file holds or than half of this
        machine's memory.
    """
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise InputError(f"{path} is no file; {cure}.")
    memory, found = distributed.memory(), {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if f"{name}.npy" not in archive.namelist():
                    continue
                shape, dtype = _header(archive, name)
                size, stored = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size
                if dtype.hasobject:
                    raise ValueError(f"{name!r} holds Python objects")
                if size > stored:
                    raise ValueError(f"{name!r} claims {size} bytes, and the file has {stored}")
                if size > memory / 2:
                    raise InputError(
                        f"{path}: {name!r} is {list(shape)}, {size / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f}; "
                        "give fewer."
                    )
                found[name] = None
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in found}
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged or no npz file ({reason(error)}); {cure}.") from error


def names(path: Path) -> list[str]:
    """The names of an npz's arrays; [] where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(name.removesuffix(".npy") for name in archive.namelist())
    except DAMAGE:
        return []


def _header(archive, name):
    """(shape, dtype) of an array, nothing else read."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype
