"""What inverters gain from going down the chain again, and from gates: one table of trials, on development images.

    python -m benchmarks.nonlinear_rest --out=benchmarks/results/nonlinear_rest.json resnet20-12fca82f.th kodak/
    python -m benchmarks.nonlinear_rest --out=benchmarks/results/nonlinear_rest.json --split=layer2.2 resnet20-12fca82f.th kodak/

A chain for layer3.2 (or another) of a CIFAR ResNet-20, solved on 1024 procedural images with up to three corrections; PSNR of the mean over
validation images (procedural) and over 192 tiles of 32 px of Kodak photographs at 160 px. Rows:

* one sweep: the chain as `dci` solves it;
* two and three sweeps: every inverter is solved again, deepest first. It starts from what the network makes of the last sweep's
  reconstruction at its place, which is sure to be what some image gives, and also sees the last sweep's own estimate;
* errors weighted: by their inverse covariance, as `dci` does since (`dci_jax/dci/precision.py`); the other rows are without;
* gates: regressors that are not linear in the features, beside the others: which features are above zero; the same of the
  estimate; both; the features where the pixel is more active than the median.

Rows that the file has are not made again.
"""

import argparse
import functools
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import dci_jax
from dci_jax.dci import inverter, normal_equations, precision
from dci_jax.dci.blocks import split_stages
from dci_jax.dci.grid import unshuffle
from dci_jax.dci.inverter import inverter_spec, kernel_sizes
from dci_jax.dci.ridge import best
from dci_jax.inputs.mixture import batches
from dci_jax.metrics import psnr
from dci_jax.network import feature_shapes, first_blocks, split_index
from dci_jax.runtime import sharding

IMAGES, VALIDATION, BATCH, CORRECTIONS = 1024, 256, 128, 3
UNKNOWNS, TOGETHER = 8000, 4  # of a correction at most, and batches that are summed at a time


def tiles(folder: Path, count: int = 192) -> np.ndarray:
    """Tiles [count, 32, 32, 3] in [0, 1] of photographs at 160 px, in random order."""
    found = []
    for path in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB").resize((160, 160), Image.BICUBIC))
        found += [pixels[y : y + 32, x : x + 32] for y in range(0, 160, 32) for x in range(0, 160, 32)]
    return np.float32(np.stack(found)[np.random.default_rng(0).permutation(len(found))[:count]] / 255)


@functools.partial(jax.jit, static_argnums=0)
def _moments(size, u, t):
    return normal_equations.moments(size, u, t)


@functools.partial(jax.jit, static_argnums=0)
def _missing(g, true, x):
    return unshuffle(true - x, g.downsampling)


def solved_map(size: int, u: Callable, t: list, ridge: float) -> tuple[jax.Array | None, float]:
    """The kernel from regressors u(part, number) to targets t, and its ridge."""
    total = None
    for i in range(0, len(t[0]), TOGETHER):
        some = range(i, min(i + TOGETHER, len(t[0])))
        found = _moments(size, tuple(u(0, j) for j in some), tuple(t[0][j] for j in some))
        total = normal_equations.added(total, sharding.fetch(found))

    def kernel(solution):
        return jnp.float32(solution.reshape(size, size, -1, solution.shape[-1]))

    def judge(solution):
        return sum(float(_wrong(kernel(solution), u(1, i), batch)) for i, batch in enumerate(t[1]))

    worst = sum(float(jnp.sum(batch**2)) for batch in t[1])
    solution, ridge = best(normal_equations.assemble(size, total), judge, worst, ridge)
    return None if solution is None else kernel(solution), ridge


@jax.jit
def _wrong(kernel, u, t):
    return jnp.sum((inverter._convolve(u, kernel) - t) ** 2)


def inverted(
    g, network, size: tuple[int, int], seen, f, true, *, start=None, beside=(), gate=None, weighted=False
) -> list:
    """Estimates, in parts (solving, validation, development), of one inverter; each in batches, as all arguments are.

    Args:
      start: what the first correction starts from; None: the first map's estimate.
      beside: more regressors on the input's grid.
      gate: (g, features, estimate) -> more regressors.
      weighted: whether errors are weighted.
    """
    x, ridge, error, precisions = start, 1e-3, math.inf, (None, None)
    if x is None:
        targets = [
            [_missing(g.layout, b, a) if g.same else unshuffle(b, g.downsampling) for a, b in zip(*p, strict=True)]
            for p in zip(f[:2], true[:2], strict=True)
        ]
        kernel, ridge = solved_map(size[0], lambda part, i: inverter._sent(g.layout, f[part][i]), targets, ridge)
        x = [[inverter.first(g, kernel, batch) for batch in part] for part in f]
    error = _error(x, true)
    if weighted:
        precisions = tuple(
            p if p is None else jnp.asarray(p) for p in precision.of_errors(g, network, seen[0], f[0], x[0])
        )
    for _ in range(CORRECTIONS):

        @functools.cache
        def u(part, i, x=x):
            parts = [unshuffle(each[part][i], g.downsampling) for each in beside]
            parts += [gate(g, f[part][i], x[part][i])] if gate else []
            whole = inverter.regressors(g, network, seen[part][i], f[part][i], x[part][i], precisions)
            return jnp.concatenate([*parts, whole], -1)

        k = max(k for k in (1, 3, 5) if k == 1 or (k <= size[1] and k * k * u(0, 0).shape[-1] <= UNKNOWNS))
        targets = [
            [_missing(g.layout, b, a) for a, b in zip(*p, strict=True)] for p in zip(x[:2], true[:2], strict=True)
        ]
        kernel, ridge = solved_map(k, u, targets, ridge)
        if kernel is None:
            break
        new = [[inverter.moved(g, kernel, u(part, i), batch) for i, batch in enumerate(x[part])] for part in range(3)]
        if not _error(new, true) < error:
            break
        x, error = new, _error(new, true)
    return x


def _error(x, true):
    return sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(x[1], true[1], strict=True))


def chain(network, split, made, last=None, gate=None, weighted=False) -> dict[int, list]:
    """Estimates of every f_i by a chain that is solved on `made`; `last`: those of the sweep before."""
    depth, shapes = split_index(network, split), feature_shapes(network)
    seen = [[first_blocks(network, depth, x) for x in part] for part in made]
    found = {depth: seen}
    for index in reversed(range(depth)):
        g = inverter_spec(network, index, depth, shapes)
        true, more = (
            [[first_blocks(network, index, x) for x in part] for part in made],
            {"gate": gate, "weighted": weighted},
        )
        if last:
            more["start"] = [[first_blocks(network, index, x) for x in part] for part in last[0]]
            more["beside"] = [more["start"], last[index]] if index else [more["start"]]
        size = kernel_sizes(g, 5, (10000, 7000))
        found[index] = inverted(g, network, size, seen, found[index + 1], true, **more)
    return found


GATES = {
    "which features are above zero": lambda g, f, x: unshuffle(jnp.float32(f > 0), g.upsampling),
    "which of the estimate are above zero": lambda g, f, x: unshuffle(jnp.float32(x > 0), g.downsampling),
    "both": lambda g, f, x: jnp.concatenate(
        [unshuffle(jnp.float32(f > 0), g.upsampling), unshuffle(jnp.float32(x > 0), g.downsampling)], -1
    ),
    "the features of the more active half of the pixels": lambda g, f, x: unshuffle(
        f * (jnp.mean(f, -1, keepdims=True) > jnp.median(jnp.mean(f, -1))), g.upsampling
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="layer3.2")
    parser.add_argument("--only", nargs="+", help="rows of one sweep to make; default: all rows")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    network, key = dci_jax.load_network("cifar_resnet20", given.weights), jax.random.key(0)
    prior = dci_jax.fit_prior(network, key=key, progress=False)
    network, photographs = split_stages(network), tiles(given.photographs)
    draws = [batches(prior, jax.random.fold_in(key, number), BATCH) for number in (1, 2)]
    made = [[draw(i) for i in range(n // BATCH)] for draw, n in zip(draws, (IMAGES, VALIDATION), strict=True)]
    made.append([jnp.asarray(photographs[i : i + 96]) for i in range(0, len(photographs), 96)])
    found = json.loads(given.out.read_text())["rows"] if given.out.exists() else []

    def keep(name, read, begin):
        scores = [
            float(np.mean(np.concatenate([psnr(*pair) for pair in zip(read[p], made[p], strict=True)]))) for p in (1, 2)
        ]
        found.append(
            {"split": given.split, "chain": name, "validation": round(scores[0], 2), "photographs": round(scores[1], 2)}
        )
        print(found[-1], f"{time.monotonic() - begin:.0f} s", flush=True)
        given.out.write_text(json.dumps({"rows": found, "jax": jax.__version__}, indent=1))

    def missing(name):
        return all((row["split"], row["chain"]) != (given.split, name) for row in found)

    with jax.default_matmul_precision("highest"):
        ways = {"one sweep": {}, "one sweep; errors weighted": {"weighted": True}}
        ways |= {f"one sweep; {name}": {"gate": gate} for name, gate in GATES.items()}
        ways["one sweep; errors weighted; both"] = {"weighted": True, "gate": GATES["both"]}
        for name, way in ways.items():
            if missing(name) and (given.only is None or name in given.only):
                begin = time.monotonic()
                keep(name, chain(network, given.split, made, **way)[0], begin)
        if given.only is not None:
            return
        last = chain(network, given.split, made) if missing("three sweeps") else None
        for name in ("two sweeps", "three sweeps"):
            if missing(name):
                begin = time.monotonic()
                last = chain(network, given.split, made, last)
                keep(name, last[0], begin)


if __name__ == "__main__":
    main()
