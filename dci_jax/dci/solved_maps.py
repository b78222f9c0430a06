"""The files of a solved inverter: one for each map, and one that counts them, written when the inverter is finished."""

from pathlib import Path

import numpy as np

from dci_jax.dci.chain import Inverter
from dci_jax.dci.inverter import InverterSpec
from dci_jax.errors import InputError
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.files import damaged, read_arrays, replacing

TAKEN = "taken.npz"  # how many maps an inverter has
PRECISIONS = "precisions.npz"  # see `dci.precision`
_PLACES = "block", "split"  # of the errors


def once(file, shape, make, lasting):
    """`make()`, (array of that shape or None, number), solved once by the leading process and read by all from the file.

    None (no map helps) is stored only if `lasting`. A first map that does not help points to a fault in the network or the
    inputs, which may be fixed before the same command is run again.
    """
    if file is None:
        solution, ridge = make()
        return (None if solution is None else distributed.broadcast(np.float32(solution))), ridge
    if not distributed.broadcast(file.exists()):
        solution, ridge = make()
        if distributed.broadcast(solution is None):
            if not lasting:
                return None, ridge
            solution = np.zeros(0)
        if distributed.is_leader():
            with replacing(file, "wb") as stream:
                np.savez(stream, solution=np.float32(solution), ridge=ridge)
        distributed.barrier(file.name)
    return _read(file, shape)


def _read(file, shape):
    """(the map in the file, or None; its ridge)."""
    saved = read_arrays(file)
    if saved.keys() != {"solution", "ridge"} or saved["solution"].shape not in (shape, (0,)) or saved["ridge"].shape:
        raise InputError(
            f"{file} holds no map of {shape[0]} regressors and {shape[1]} targets, as this inverter needs: it is damaged or of "
            f"another version; delete {file.parents[1]} and give the same line, which makes it again."
        )
    return (saved["solution"] if saved["solution"].size else None), float(saved["ridge"])


def precisions(folder, channels, make):
    """`make()`, inverse covariances with so many channels or None for 0, made once and read by all from the file, on every device."""
    file = folder and folder / PRECISIONS
    if not (file and distributed.broadcast(file.exists() or (folder / "1.npz").exists())):
        pairs = zip(_PLACES, make(), strict=True)
        found = {name: distributed.broadcast(a) for name, a in pairs if a is not None}
        if file and distributed.is_leader():
            with replacing(file, "wb") as stream:
                np.savez(stream, **found)
        distributed.barrier(PRECISIONS)
        return _placed(found)
    return _read_precisions(file, channels)


def _read_precisions(file, channels):
    if not file.exists():  # it is written before the first correction's map
        raise InputError(
            f"{file} is missing: the maps beside it are of another version; delete {file.parents[1]} and give the same line, which "
            "makes them again."
        )
    saved = read_arrays(file)
    if {name: a.shape for name, a in saved.items()} != {
        name: (count, count) for name, count in zip(_PLACES, channels, strict=True) if count
    }:
        raise damaged(file, f"it holds no matrices of {channels} channels")
    return _placed(saved)


def _placed(found):
    everywhere = sharding.replicated()
    return tuple(sharding.put(np.float32(found[p]), everywhere) if p in found else None for p in _PLACES)


def shape_of(g, ks, r):
    """(regressors, targets) of map r."""
    return ks[min(r, 1)] ** 2 * (g.sent, g.channels)[min(r, 1)], g.target


def placed(solution, size):
    """The kernel [k, k, regressors, targets] on every device."""
    return sharding.put(np.float32(solution.reshape(size, size, -1, solution.shape[-1])), sharding.replicated())


def finish(folder: Path | None, count: int, mse: float) -> None:
    """Say in a file that the inverter in a folder is finished, with `count` maps and this validation error."""
    if folder and distributed.is_leader():
        with replacing(folder / TAKEN, "wb") as stream:
            np.savez(stream, maps=count, mse=mse)
    distributed.barrier(TAKEN)


def finished(folder: Path | None) -> int:
    """Number of maps of a finished inverter; 0 for any other, and without a folder.

    Raises:
      InputError: the file with this number is damaged.
    """
    if folder is None or not distributed.broadcast((folder / TAKEN).exists()):
        return 0
    saved = read_arrays(folder / TAKEN)
    count = saved.get("maps", np.zeros(1))
    if count.shape or count.dtype.kind not in "iu" or count < 1:
        raise damaged(folder / TAKEN, "it holds no number of maps")
    return int(count) if distributed.broadcast(all((folder / f"{r}.npz").exists() for r in range(int(count)))) else 0


def kept_inverter(
    folder: Path, count: int, g: InverterSpec, ks: tuple[int, int], channels: tuple[int, int]
) -> tuple[Inverter, float | None]:
    """Read a finished inverter from its files: (inverter, its validation error, None if an older version wrote it).

    Raises:
      InputError: a file is damaged.
    """
    maps = []
    for r in range(count):
        solution, _ = _read(folder / f"{r}.npz", shape_of(g, ks, r))
        if solution is None:
            raise damaged(folder / TAKEN, f"it counts map {r}, which was not taken")
        maps.append(placed(solution, ks[min(r, 1)]))
    mse = read_arrays(folder / TAKEN).get("mse")
    found = _read_precisions(folder / PRECISIONS, channels) if count > 1 else (None, None)
    return Inverter(tuple(maps), g, found), None if mse is None else float(mse)
