"""Solve one inverter: sums over all images, a ridge chosen on validation images, a file for each map.

Every device sums over its own images and one all-reduce adds the sums. The rest is float64: on a GPU on the device
of the sums, else on the host (`dci.ridge`).
"""

import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.dci import inverter, normal_equations, precision, solved_maps
from dci_jax.dci.chain import Inverter
from dci_jax.dci.inverter import InverterSpec
from dci_jax.dci.ridge import RIDGES, best, on_gpu
from dci_jax.errors import InputError
from dci_jax.network import Network
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.compile_ahead import program
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")

# What is summed at a time: pixels and bytes of regressors for single pixels; images and bytes for neighbourhoods, whose transforms
# back cost the same for any number of images.
PIXELS, ROOM = 8192, 2**28
IMAGES, ROOM_OF_IMAGES = 512, 2**29
KEPT = 4 * 2**30  # bytes of regressors that are kept between the sums and the step; more are recomputed
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
    x, ridge, kernels, errors, count = None, RIDGES[2], [], [], len(f[0])
    precisions = None, None
    pixels = true[0][0].size // g.target  # of a batch
    for r in range(num_corrections + 1):
        size, shape = ks[min(r, 1)], solved_maps.shape_of(g, ks, r)
        if r == 1:
            precisions = _precisions(g, network, seen[0], f[0], x[0], folder)
        regressors = functools.partial(_regressors, g, network, precisions, (seen, f, x))
        if 4 * count * pixels * g.channels <= KEPT:
            regressors = functools.cache(regressors)
        held = [x and regressors(1, i) for i in range(len(f[1]))]  # few, and needed for every ridge
        judge = functools.partial(_judged, g, size, f[1], held, x and x[1], true[1])
        some = together(size, count, len(true[0][0]), pixels, (g.sent, g.channels)[r > 0])
        sums = functools.partial(_sums, g, regressors, f, x, true, some=some, size=size)
        places = [slice(first, min(first + some, count)) for first in range(0, count, some)]
        shown = functools.partial(_shown, update, r * count)
        known = {"worst": errors[-1] if r else None, "settled": r > 1}  # the first correction's ridge hardly changes
        make = functools.partial(_solve, places, size, shape, ridge, sums, shown, judge, **known, label=label)
        solution, chosen = solved_maps.once(folder and folder / f"{r}.npz", shape, make, lasting=r > 0)
        if solution is None:
            log.info("%s: correction %d helps with no ridge; rejected", label, r)
            break
        kernel = solved_maps.placed(solution, size)
        apart = _applied(g, kernel, f[1], held, x and x[1])
        errors.append(_error(apart, true[1]))
        if not math.isfinite(errors[-1]) or (r and errors[-1] >= errors[-2]):
            errors.pop()
            log.info("%s: correction %d is worse on validation images; rejected", label, r)
            break
        estimates = x[0] if x else [None] * count
        for i in range(count):
            u = x and regressors(0, i)
            (estimates[i],) = _applied(g, kernel, [f[0][i]], [u], x and [estimates[i]])
        x, ridge, kernels = [estimates, apart], chosen, [*kernels, kernel]
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
    solved_maps.finish(folder, len(errors), mse)
    return Inverter(tuple(kernels), g, precisions if len(kernels) > 1 else (None, None)), x, mse


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
    seen, f, true = ([[a] * counts[0]] for a in (seen, f, true))
    x, pixels = None, math.prod(true[0][0].shape) // g.target
    for r in range(min(num_corrections, 1) + 1):  # the later corrections share the programs of the first
        size = ks[min(r, 1)]
        precisions = _rehearsed_precisions(g, network, seen, f, x) if r else (None, None)
        regressors = functools.cache(functools.partial(_regressors, g, network, precisions, (seen, f, x)))
        some = together(size, counts[0], len(true[0][0]), pixels, (g.sent, g.channels)[r > 0])
        _sums(g, regressors, f, x, true, slice(0, 1), some=some, size=size)
        unknowns, targets = solved_maps.shape_of(g, ks, r)
        kernel = (size, size, unknowns // size**2, targets)
        kernel = jax.ShapeDtypeStruct(kernel, jnp.float32, sharding=sharding.replicated())
        x = [_applied(g, kernel, f[0][:1], [x and regressors(0, 0)], x and x[0]) * counts[0]]
        _square(x[0][0], true[0][0])
    _deviation(true[0][0])


def _precisions(g, network, seen, f, x, folder):
    """The weights of errors, see `dci.precision`, on every device."""
    make = functools.partial(precision.of_errors, g, network, seen, f, x)
    return solved_maps.precisions(folder, precision.channels(g, network), make)


def _rehearsed_precisions(g, network, seen, f, x):
    """Shapes of `precision.of_errors`, whose programs are called."""
    channels, found = precision.channels(g, network), []
    for (_, error), count in zip(inverter.errors(g, network, seen[0][0], f[0][0], x[0][0]), channels, strict=False):
        if count:
            precision.products(error)
        shape = jax.ShapeDtypeStruct((count, count), jnp.float32, sharding=sharding.replicated())
        found.append(shape if count else None)
    return *found, *[None] * (2 - len(found))


def _applied(g, kernel, f, u, x):
    """Estimates of batches: by the first map from the features f (x is None), or by a correction of the estimates x."""
    if x is None:
        return [inverter.first(g, kernel, batch) for batch in f]
    return [inverter.moved(g, kernel, *pair) for pair in zip(u, x, strict=False)]


def _judged(g, size, f, u, x, true, solution):
    """The error of a solution on validation images."""
    return _error(_applied(g, solved_maps.placed(solution, size), f, u, x), true)


def _error(estimates, true):
    return sum(float(_square(*pair)) for pair in zip(estimates, true, strict=True))


def _regressors(g, network, precisions, arrays, part, i):
    """Regressors of a correction, for batch i of a part of (seen, f, x)."""
    return inverter.regressors(g, network, *(a[part][i] for a in arrays), precisions)


def together(size: int, count: int, batch: int, pixels: int, channels: int) -> int:
    """How many of `count` batches are summed at a time: adding up the sums, and their transforms, costs the same for any number.

    The groups are equal, so that they share one program.

    Args:
      size: k of the neighbourhoods.
      count: batches for solving.
      batch, pixels: images in a batch, and their pixels.
      channels: of the regressors.
    """
    most, room = (math.ceil(PIXELS / pixels), ROOM) if size == 1 else (IMAGES // batch, ROOM_OF_IMAGES)
    most = max(1, min(most, room // (4 * pixels * channels)))
    return math.ceil(count / math.ceil(count / most))


def _sums(g, regressors, f, x, true, place, *, some, size):
    """`moments` of the batches at a place, for the first map (x is None) or a correction of the estimates x."""
    count = len(true[0][place])
    filled = [*range(count), *[0] * (some - count)]  # the rest do not count

    def batches(parts):
        return [parts[0][place][number] for number in filled]

    if x is None:
        return inverter.first_moments(size, g, batches(f), batches(true), count)
    u = [regressors(0, i) for i in range(len(x[0]))[place]]
    return inverter.correction_moments(size, g, [u[number] for number in filled], batches(x), batches(true), count)


def _shown(update, before, done):
    update(before + done)


def _solve(places, size, shape, start, sums, shown, judge, *, worst, settled, label):
    """(solution or None, ridge): the ridge that is best on validation images, if it beats the zero map."""
    bring = sharding.on_first_device if on_gpu(shape[0]) else sharding.fetch
    total = None
    for place in places:
        distributed.stop_if_asked()
        total = normal_equations.added(total, bring(sums(place)))
        shown(place.stop)
    if not normal_equations.finite(total):
        log.warning("%s: the sums of its normal equations are not finite", label)
        return None, 0.0
    distributed.trim()
    normal = normal_equations.assemble(size, total)
    del total
    worst = judge(np.zeros(shape)) if worst is None else worst  # of the zero map; a correction's leaves the estimate
    return best(normal, judge, worst, start, settled=settled)


@program
def _square(a, b):
    return jnp.sum((a - b) ** 2)


@program
def _deviation(x):
    return jnp.sum((x - jnp.mean(x, tuple(range(x.ndim - 1)))) ** 2)
