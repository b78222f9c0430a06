"""Divide-and-Conquer Inversion with inverters that are solved for, not trained: no gradient step, no learning rate.

Every split has a chain of its own. Its deepest inverter is solved on true features; each next one on what the
chain so far makes of them, its target always the true input: it then expects the errors that it will meet, which
is what the conquer phase teaches trained inverters. Within an inverter corrections (`linear_inverter`) are solved
one after the other, as long as they help on images that none was solved on.
"""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import hosts, parallel, progress
from dci_jax.attacks import least_squares, linear_inverter
from dci_jax.attacks.linear_inverter import Geometry, enough, geometry, largest, sizes
from dci_jax.blocks import Network, run, split_index, split_names
from dci_jax.errors import InputError
from dci_jax.files import replacing
from dci_jax.inputs import BANK, Inputs, batches

Array = jax.Array
Reconstruct = Callable[[Array], Array]

log = logging.getLogger("dci_jax")

# What a map may be regularised with, relative to each regressor's mean square: held-out images choose.
RIDGES = (1e-7, 1e-5, 1e-3, 1e-1)
MATRICES = 6  # float64 ones of all unknowns that a solve holds at a time
SKETCH = 256  # random mixtures of the targets that the choice of the ridge looks at: wide blocks have thousands
HELPS = 0.97  # a correction is kept going while it leaves at most so much of the held-out error


def dci(
    network: Network,
    inputs: Inputs,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    *,
    images: int,
    held_out: int,
    batch: int,
    rounds: int,
    size: int,
    unknowns: tuple[int, int],
    equations: int,
) -> dict[str, Reconstruct]:
    """Solve a chain of inverters for each split.

    Args:
      network: the target, known to the attacker.
      inputs: what the inverters are solved on.
      splits: split points to be read back.
      key: PRNG key.
      folder: gets one file for each map that was solved; a killed run goes on from the last.
      images: how many inputs a map is solved on, at most but for the last batch, which is whole.
      held_out: inputs kept apart that choose the ridge and the number of corrections; procedural ones alone
        where `inputs` has any, else others drawn from the same source. Where a map is solved on fewer inputs
        it is as many fewer; no map is solved on fewer inputs than `held_out`.
      batch: inputs at a time, shared by the devices.
      rounds: corrections in each inverter, at most.
      size: k of the k x k neighbourhoods, at most.
      unknowns: of a first map, of a correction: where k^2 C would be more, k is less, down to a single pixel. Bounds
        memory and time of a solve.
      equations: how many pixels for each unknown are enough. The large features of shallow blocks have them in
        a few inputs, which is where most of the time would go.

    Returns:
      split point -> function from its features [B, ...] to images [B, H, W, C] in [0, 1], or codes [B, C].

    Raises:
      InputError: see `check`, or the features are not finite.
    """
    check(network, splits, images, held_out, batch, rounds, size, unknowns, equations)
    key_inputs, key_held = jax.random.split(key)
    procedural = tuple(share for share in inputs.shares if share[0] != BANK)
    apart = replace(inputs, shares=procedural or inputs.shares)
    made = [
        [draw(number) for number in range(math.ceil(count / batch))]
        for draw, count in (
            (batches(inputs, key_inputs, batch), images),
            (batches(apart, key_held, batch), held_out),
        )
    ]
    chains = {}
    for name in splits:
        chains[name] = _chain(network, name, made, folder / name, rounds, size, unknowns, equations)
    return {name: functools.partial(invert, *zip(*chains[name], strict=True), network) for name in splits}  # fmt: skip


def check(
    network: Network,
    splits: tuple[str, ...],
    images: int,
    held_out: int,
    batch: int,
    rounds: int,
    size: int,
    unknowns: tuple[int, int],
    equations: int,
) -> None:
    """Raise InputError where `dci` could not work, or would be crippled."""
    for field, value, least in (
        ("images", images, 1), ("held_out", held_out, 1), ("batch", batch, 1), ("rounds", rounds, 0),
        ("equations", equations, 1),
    ):  # fmt: skip
        if value < least:
            raise InputError(f"dci.{field} is {value}; give at least {least}.")
    if len(unknowns) != 2 or min(unknowns) < 1:
        raise InputError(
            f"dci.unknowns is {unknowns}; give two numbers of at least 1, of a first map and of a correction."
        )
    if size not in (1, 3, 5, 7):
        raise InputError(f"dci.size is {size}; give 1, 3, 5 or 7 pixels.")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for index in range(max(split_index(network, name) for name in splits)):
        g = geometry(network, index)
        wide = largest(g, sizes(g, size, unknowns))
        if MATRICES * 8 * wide**2 > memory:
            raise InputError(
                f"dci.unknowns is {unknowns} and the inverter of {network.blocks[index].name} has {wide}: its "
                f"solve takes {MATRICES * 8 * wide**2 / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f}; "
                + (
                    f"give at most {math.isqrt(memory // (MATRICES * 8))}."
                    if wide > g.channels
                    else "choose shallower splits."
                )
            )


def invert(
    geometries: tuple[Geometry, ...], chain: tuple[tuple, ...], network: Network, features: Array
) -> Array:
    """`R_1(...R_k(f_k))`, the deepest inverter first in `geometries` and `chain`."""
    return unwind(geometries, chain, network, features)[0]


def unwind(
    geometries: tuple[Geometry, ...], chain: tuple[tuple, ...], network: Network, features: Array
) -> tuple[Array, ...]:
    """All estimates on the way of `invert`: (f_0, ..., f_k), the last of which is `features` itself."""
    found = [features]
    for g, maps in zip(geometries, chain, strict=True):
        found.insert(0, undo(g, maps, network, found[0]))
    return tuple(found)


def undo(g: Geometry, maps: tuple[Array, ...], network: Network, f: Array) -> Array:
    """One inverter: features behind its block -> features before it."""
    x = linear_inverter.first(g, maps[0], f)
    for kernel in maps[1:]:
        x = linear_inverter.corrected(g, kernel, network, f, x)
    return x


def _chain(network, name, made, folder, rounds, size, unknowns, equations):
    """[(geometry, maps)] of the inverters of the split called `name`, the deepest first."""
    depth, inverters = split_index(network, name), []
    seen = network.replace(input_shape=made[0][0].shape[1:])
    geometries = [geometry(seen, index) for index in range(depth)]
    ks = [sizes(g, size, unknowns) for g in geometries]
    batch = len(made[0][0])
    images, least = (len(part) * batch for part in made)
    counts = []
    for count in enough(geometries, ks, images, least, equations):
        part = math.ceil(count / batch)
        counts.append((part, math.ceil(part * len(made[1]) / len(made[0]))))
    found = [[features_at(network, depth, x) for x in part] for part in made]
    total, before = (rounds + 1) * sum(map(sum, counts)), 0
    with progress.bar(f"dci: {name}", total) as update:
        for index in reversed(range(depth)):
            g, block = geometries[index], split_names(network)[index]
            used = [part[:count] for part, count in zip(made, counts[index], strict=True)]
            found = [part[:count] for part, count in zip(found, counts[index], strict=True)]
            true = [[features_at(network, index, x) for x in part] for part in used]
            steps = _inverter(
                g, network, found, true, folder / f"{index:03d}", rounds, ks[index],
                functools.partial(_shown, update, before), f"{name}: {block}",
            )  # fmt: skip
            maps, found = [], None
            for kernel, estimates in steps:
                found = estimates
                maps.append(kernel)
            inverters.append((g, tuple(maps)))
            before += (rounds + 1) * sum(counts[index])
    return inverters


def _inverter(g, network, f, true, folder, rounds, ks, update, label) -> Iterator:
    """Solve one inverter: yields (map, what the inverter so far makes of `f`) as long as maps help.

    `f` and `true` are features behind and before the block, (to be solved on, held out), lists of batches.
    """
    x, errors, count = None, [], len(f[0]) + len(f[1])
    for r in range(rounds + 1):
        size = ks[min(r, 1)]
        sums = functools.partial(_sums, size, g, network, f, x, true)
        shown = functools.partial(_shown, update, r * count)
        make = functools.partial(_solve, (len(f[0]), len(f[1])), size, sums, shown, label)
        solution, chosen = _kept(folder / f"{r}.npz", make)
        if solution is None:
            break
        kernel = parallel.put(
            np.float32(solution.reshape(size, size, -1, solution.shape[-1])), parallel.copied()
        )
        if r == 0:
            new = [[linear_inverter.first(g, kernel, a) for a in part] for part in f]
        else:
            new = [
                [
                    linear_inverter.corrected(g, kernel, network, a, b)
                    for a, b in zip(*parts, strict=True)
                ]
                for parts in zip(f, x, strict=True)
            ]
        errors.append(sum(float(_square(*pair)) for pair in zip(new[1], true[1], strict=True)))
        if not math.isfinite(errors[-1]) or (r and errors[-1] >= errors[-2]):
            errors.pop()
            log.info("%s: correction %d is worse on held-out images and not taken", label, r)
            break
        x, ridge = new, chosen
        yield kernel, new
        if r and errors[-1] > HELPS * errors[-2]:
            break
    if x is None:
        raise InputError(
            f"dci: {label} cannot be inverted from its features, which are not finite or say nothing; look "
            "at the checkpoint and at the inputs."
        )
    spread = sum(float(_spread(batch)) for batch in true[1])
    log.info(
        "%s: %.2f dB on held-out images after %d corrections, ridge %g",
        label, 10 * math.log10(max(spread, 1e-30) / max(errors[-1], 1e-30)), len(errors) - 1, ridge,
    )  # fmt: skip


def _sums(size, g, network, f, x, true, part, i):
    """`moments` of batch i of a part, for the first map (x is None) or a correction of the estimates x."""
    if x is None:
        return linear_inverter.first_moments(size, g, f[part][i], true[part][i])
    return linear_inverter.correction_moments(
        size, g, network, f[part][i], x[part][i], true[part][i]
    )


def _shown(update, before, done):
    update(before + done)


def _solve(counts, size, sums, shown, label):
    """(solution or None, ridge): the ridge that is best on held-out images, if it is better than no map at all."""
    totals, done = [], 0
    for part, count in enumerate(counts):
        total = None
        for i in range(count):
            hosts.stop_if_asked()
            new = parallel.fetch(sums(part, i))
            total = total or {k: np.zeros(np.shape(v)) for k, v in new.items()}
            for k, v in new.items():
                total[k] += v
            done += 1
            shown(done)
        totals.append(total)
    best = (None, 0.0)
    if all(np.isfinite(v).all() for total in totals for v in total.values()):
        train, apart = (least_squares.assemble(size, total) for total in totals)
        del total, totals, new
        ridge = _ridge(*(least_squares.sketched(normal, SKETCH) for normal in (train, apart)))
        if ridge is not None:
            solution = least_squares.solve(train, ridge)
            if least_squares.error(apart, solution) < apart.energy:
                best = solution, ridge
    else:
        log.warning("%s: the sums of its normal equations are not finite", label)
    return best


def _ridge(train, apart):
    """The one of `RIDGES` whose solution is best on `apart`; None where none is better than no map."""
    best, least = None, apart.energy
    for ridge in RIDGES:
        try:
            error = least_squares.error(apart, least_squares.solve(train, ridge))
        except np.linalg.LinAlgError:
            continue
        if error < least:
            best, least = ridge, error
    return best


def _kept(file, make):
    """`make()`, (array or None, number), solved by the leading process, once, and read by all from the file.

    None is not kept: the cause may be put right before the same line is given again.
    """
    if not hosts.agree(file.exists()):
        solution, ridge = make()
        if hosts.agree(solution is None):
            return None, ridge
        if hosts.leads():
            with replacing(file, "wb") as stream:
                np.savez(stream, solution=np.float32(solution), ridge=ridge)
        hosts.meet(file.name)
    with np.load(file) as saved:
        return saved["solution"], float(saved["ridge"])


@functools.partial(jax.jit, static_argnums=1)
def features_at(network: Network, index: int, x: Array) -> Array:
    """f_index of inputs [B, ...]; f_0 are the inputs themselves."""
    return run(network, x, 0, index)


@jax.jit
def _square(a, b):
    return jnp.sum((a - b) ** 2)


@jax.jit
def _spread(x):
    return jnp.sum((x - jnp.mean(x, tuple(range(x.ndim - 1)))) ** 2)
