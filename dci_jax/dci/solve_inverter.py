"""Solve one inverter: sums over all images, a ridge chosen on validation images, a file for each map.

Every device sums over its own images and one all-reduce adds the sums. The rest is float64: on a GPU on the device
of the sums, else on the host (`dci.ridge`).
"""

import functools
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.dci import inverter, normal_equations
from dci_jax.dci.chain import Inverter
from dci_jax.dci.inverter import InverterSpec
from dci_jax.dci.ridge import RIDGES, best, on_gpu
from dci_jax.errors import InputError
from dci_jax.network import Network
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.compile_ahead import program
from dci_jax.runtime.files import damaged, read_arrays, replacing
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")

TOGETHER, ROOM = 128, 2**28  # images, and bytes of regressors, whose sums over neighbourhoods are computed at a time
KEPT = 4 * 2**30  # bytes of regressors that are kept between the sums and the step; more are recomputed
TAKEN = "taken.npz"  # how many maps an inverter has, written when it is finished
HELPS = 0.99  # corrections continue while each leaves at most this share of the validation error


def solve_inverter(
    g: InverterSpec,
    network: Network,
    seen: list[list[Array]],
    f: list[list[Array]],
    true: list[list[Array]],
    *,
    folder: Path | None,
    num_corrections: int,
    ks: tuple[int, int],
    update: Callable[[int], None],
    label: str,
) -> tuple[Inverter, list[list[Array]], float]:
    """Solve one inverter: its first map, then corrections as long as they help.

    Args:
      g: spec of the block.
      network: the target.
      seen: features at split g.stop, in parts and batches like the others.
      f, true: features after the block (or estimates of them) and before it, (for solving, for validation), each a
        list of batches.
      folder: stores a file for each map; existing maps are not solved again. None: nothing is written.
      num_corrections: maximum number of corrections.
      ks: neighbourhoods of the first map and of a correction.
      update: called with the number of batches done.
      label: for the log.

    Returns:
      (inverter, its estimates from `f`, its mean squared error on the validation inputs).

    Raises:
      InputError: the features are not finite, or no map beats the zero map.
    """
    kernels = []
    x, ridge, errors, count = None, RIDGES[len(RIDGES) // 2], [], len(f[0]) + len(f[1])
    pixels = count * true[0][0].size // g.target
    for r in range(num_corrections + 1):
        size = ks[min(r, 1)]
        regressors = functools.partial(_regressors, g, network, seen, f, x)
        if 4 * pixels * g.channels <= KEPT:
            regressors = functools.cache(regressors)
        together = _together(size, len(f[0]), len(true[0][0]), 4 * pixels * (g.sent, g.channels)[r > 0] // count)
        sums = functools.partial(_sums, g, regressors, f, x, true, together=together, size=size)
        shown = functools.partial(_shown, update, r * count)
        shape = _shape(g, ks, r)
        make = functools.partial(
            _solve, (len(f[0]), len(f[1])), together, size, shape[0], ridge, sums, shown, label=label
        )
        solution, chosen = _kept(folder and folder / f"{r}.npz", shape, make, lasting=r > 0)
        if solution is None:
            log.info("%s: correction %d helps with no ridge; rejected", label, r)
            break
        kernel = _placed(solution, size)
        new = _estimates(g, kernel, f, x, regressors)
        errors.append(sum(float(_square(*pair)) for pair in zip(new[1], true[1], strict=True)))
        if not math.isfinite(errors[-1]) or (r and errors[-1] >= errors[-2]):
            errors.pop()
            log.info("%s: correction %d is worse on validation images; rejected", label, r)
            break
        x, ridge = new, chosen
        kernels.append(kernel)
        if r and errors[-1] > HELPS * errors[-2]:
            break
    if x is None:
        raise InputError(
            f"dci: {label}: the features are non-finite or carry no information; check the checkpoint and the inputs."
        )
    power = sum(float(_deviation(batch)) for batch in true[1])
    snr = 10 * math.log10(max(power, 1e-30) / max(errors[-1], 1e-30))
    log.info("%s: %.2f dB on validation images after %d corrections, ridge %g", label, snr, len(errors) - 1, ridge)
    mse = errors[-1] / sum(batch.size for batch in true[1])
    if folder and distributed.is_leader():
        with replacing(folder / TAKEN, "wb") as stream:
            np.savez(stream, maps=len(errors), mse=mse)
    distributed.barrier(TAKEN)
    return Inverter(tuple(kernels), g), x, mse


def rehearse(
    g: InverterSpec,
    network: Network,
    seen: Array,
    f: Array,
    true: Array,
    counts: tuple[int, int],
    *,
    num_corrections: int,
    ks: tuple[int, int],
) -> None:
    """Call all programs of `solve_inverter`, in its order, on the shapes of one batch; within `compile_ahead.rehearsal`.

    Args:
      counts: batches (for solving, for validation).
      Others as for `solve_inverter`.
    """
    seen, f, true = ([[a] * count for count in counts] for a in (seen, f, true))
    x, pixels = None, sum(counts) * math.prod(true[0][0].shape) // g.target
    for r in range(min(num_corrections, 1) + 1):  # the later corrections share the programs of the first
        size = ks[min(r, 1)]
        regressors = functools.cache(functools.partial(_regressors, g, network, seen, f, x))
        each = 4 * pixels * (g.sent, g.channels)[r > 0] // sum(counts)
        together = _together(size, counts[0], len(true[0][0]), each)
        _sums(g, regressors, f, x, true, 0, slice(0, 1), together=together, size=size)
        unknowns, targets = _shape(g, ks, r)
        kernel = (size, size, unknowns // size**2, targets)
        kernel = jax.ShapeDtypeStruct(kernel, jnp.float32, sharding=sharding.replicated())
        x = _estimates(g, kernel, f, x, regressors)
        _square(x[1][0], true[1][0])
    _deviation(true[1][0])


def _estimates(g, kernel, f, x, regressors):
    """Estimates by the first map from the features f (x is None), or by a correction from the estimates x; in parts and batches."""
    if x is None:
        return [[inverter.first(g, kernel, a) for a in part] for part in f]
    return [
        [inverter.moved(g, kernel, regressors(part, i), batch) for i, batch in enumerate(x[part])]
        for part in range(len(x))
    ]


def _regressors(g, network, seen, f, x, part, i):
    """Regressors of a correction, for batch i of a part."""
    return inverter.regressors(g, network, seen[part][i], f[part][i], x[part][i])


def _together(size, count, batch, bytes_of_one):
    """How many batches to sum at a time: for neighbourhoods, the transforms of the sums cost the same for any number.

    The groups of the `count` batches for solving are equal, so that they and those for validation share one program.
    """
    most = 1 if size == 1 else max(1, min(TOGETHER // batch, ROOM // bytes_of_one))
    return math.ceil(count / math.ceil(count / most))


def _slices(count, together):
    """The batches that are summed at a time."""
    return [slice(first, min(first + together, count)) for first in range(0, count, together)]


def _sums(g, regressors, f, x, true, part, some, *, together, size):
    """`moments` of some batches of a part, for the first map (x is None) or a correction of the estimates x."""
    count = len(true[part][some])
    filled = [*range(count), *[0] * (together - count)]  # the rest do not count

    def batches(parts):
        return [parts[part][some][number] for number in filled]

    if x is None:
        return inverter.first_moments(size, g, batches(f), batches(true), count)
    u = [regressors(part, i) for i in range(len(x[part]))[some]]
    return inverter.correction_moments(size, g, [u[number] for number in filled], batches(x), batches(true), count)


def _shown(update, before, done):
    update(before + done)


def _solve(counts, together, size, unknowns, start, sums, shown, *, label):
    """(solution or None, ridge): the ridge that is best on validation images, if it beats the zero map."""
    bring = sharding.on_first_device if on_gpu(unknowns) else sharding.fetch
    totals, done = [], 0
    for part, count in enumerate(counts):
        total = None
        for some in _slices(count, together):
            distributed.stop_if_asked()
            total = normal_equations.added(total, bring(sums(part, some)))
            done += some.stop - some.start
            shown(done)
        totals.append(total)
    del total
    if not all(normal_equations.finite(total) for total in totals):
        log.warning("%s: the sums of its normal equations are not finite", label)
        return None, 0.0
    distributed.trim()
    with ThreadPoolExecutor() as pool:
        train, apart = pool.map(functools.partial(normal_equations.assemble, size), totals)
    del totals
    with jax.enable_x64(True):
        return best(train, apart, start)


def _kept(file, shape, make, lasting):
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


def _shape(g, ks, r):
    """(regressors, targets) of map r."""
    return ks[min(r, 1)] ** 2 * (g.sent, g.channels)[min(r, 1)], g.target


def _placed(solution, size):
    """The kernel [k, k, regressors, targets] on every device."""
    return sharding.put(np.float32(solution.reshape(size, size, -1, solution.shape[-1])), sharding.replicated())


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


def kept_inverter(folder: Path, count: int, g: InverterSpec, ks: tuple[int, int]) -> tuple[Inverter, float | None]:
    """Read a finished inverter from its files: (inverter, its validation error, None if an older version wrote it).

    Raises:
      InputError: a file is damaged.
    """
    maps = []
    for r in range(count):
        solution, _ = _read(folder / f"{r}.npz", _shape(g, ks, r))
        if solution is None:
            raise damaged(folder / TAKEN, f"it counts map {r}, which was not taken")
        maps.append(_placed(solution, ks[min(r, 1)]))
    mse = read_arrays(folder / TAKEN).get("mse")
    return Inverter(tuple(maps), g), None if mse is None else float(mse)


@program
def _square(a, b):
    return jnp.sum((a - b) ** 2)


@program
def _deviation(x):
    return jnp.sum((x - jnp.mean(x, tuple(range(x.ndim - 1)))) ** 2)
