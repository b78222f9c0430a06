"""Files of a run: written so that a kill leaves the old one or the new one, read so that a damaged one is told."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from dci_jax.errors import InputError

_homes: set[Path] = set()


def claimed(workdir: Path) -> None:
    """From now on this process makes folders inside `workdir`, but never that again."""
    _homes.add(workdir.absolute())


def made(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
      FileNotFoundError: the claimed workdir that it lies in has vanished; nothing may then be written in its place.
    """
    whole = folder.absolute()
    homes = [home for home in _homes if home == whole or home in whole.parents]
    if not homes:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    home = max(homes, key=lambda home: len(home.parts))
    inside = whole.relative_to(home).parts
    for depth in range(1, len(inside) + 1):
        home.joinpath(*inside[:depth]).mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """A stream to a file beside `path`, which takes its place once everything is written.

    Args:
      path: the file; its folder is `made` if need be.
      mode: "w" for text (UTF-8), "wb" for bytes.
    """
    made(path.parent)
    part = path.with_name(path.name + ".part")
    try:
        with part.open(mode, encoding=None if "b" in mode else "utf-8", newline=None) as stream:
            yield stream
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk needs the room
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What an .npz file of a run holds, all of it read, so that its checksums are compared.

    Raises:
      InputError: it is damaged.
      OSError: it cannot be read, or is not there.
    """
    return _read(path, _arrays)


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file of a run holds: a `kind`.

    Raises:
      InputError: it is damaged, or holds something else.
      OSError: it cannot be read, or is not there.
    """
    found = _read(path, lambda path: json.loads(path.read_text()))
    if not isinstance(found, kind):
        raise damaged(path, f"it holds a {type(found).__name__}")
    return found


def damaged(path: Path, why: object) -> InputError:
    """The error that says so."""
    why = " ".join(str(why).split())[:200]
    return InputError(f"{path} is damaged ({why}); delete it and give the same line, which makes it again.")


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two nested dicts differ."""
    names = []
    for field in sorted(old.keys() | new.keys()):
        a, b = old.get(field), new.get(field)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{prefix}{field}.")
        elif a != b:
            names.append(prefix + field)
    return names


def _arrays(path):
    with np.load(path) as saved:
        return dict(saved)


def _read(path, read):
    try:
        return read(path)
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy have one of their own for every place that can be damaged
        raise damaged(path, error) from error
