"""What a chain of solved inverters costs, counted before it is solved: FLOPs, traffic and memory."""

import math

import jax
import jax.numpy as jnp

from dci_jax.dci import inverter, normal_equations, solve_inverter
from dci_jax.dci.inverter import InverterSpec, inverter_spec
from dci_jax.dci.ridge import MATRICES
from dci_jax.network import Network, feature_shapes, run
from dci_jax.runtime.flops import flops as count_flops

Chain = list[
    tuple[InverterSpec, tuple[int, int]]
]  # of each inverter, the shallowest first: (inverter_spec, neighbourhoods)


def inverter_specs(network: Network, depth: int, settings: dict, shared: bool = False) -> Chain:
    """The inverters of a chain through `depth` blocks.

    Args:
      network: the target for inputs as they are solved on.
      depth: the split's number.
      settings: of `dci`.
      shared: one chain for all splits, in which no inverter is told what was sent at the deepest.
    """
    shapes = feature_shapes(network)
    found = [inverter_spec(network, index, None if shared else depth, shapes) for index in range(depth)]
    return [(g, inverter.kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"])) for g in found]


def flops(network: Network, found: Chain, settings: dict) -> tuple[float, float, float, float]:
    """What a chain costs if every correction is tried.

    Args:
      network: the target for inputs as they are solved on.
      found: as `inverter_specs` gives them.
      settings: of `dci`.

    Returns:
      FLOPs of the sums, and of passes through the network and back, which all devices share; FLOPs of the factorisations
      in float64; bytes that each device sends to the sums of all.
    """
    num_images, num_validation, num_corrections = (
        settings[name] for name in ("num_images", "num_validation", "num_corrections")
    )
    counts, shapes = _counts(found, settings), feature_shapes(network)
    forward = []
    for index in range(len(found)):
        x = jax.ShapeDtypeStruct((1, *shapes[index]), jnp.float32)
        forward.append(count_flops(jax.jit(lambda x, at=index: run(network, x, at, at + 1)).trace(x)))
    sums = passes = solves = sent = 0.0
    for (g, ks), count in zip(found, counts, strict=True):
        seen = count * (1 + num_validation / max(num_images, 1))
        first, correction = inverter.flops(g, ks, *g.grid)
        ways = 2 * sum(forward[g.index : g.stop]) + (g.stop > g.index + 1) * forward[g.index]
        sums += seen * (first + num_corrections * correction)
        passes += seen * num_corrections * ways
        for size, channels, times in ((ks[0], g.sent, 1), (ks[1], g.channels, num_corrections)):
            solves += times * 3 * (size**2 * channels) ** 3 / 3  # about three ridges are tried
            reduced = seen / min(solve_inverter.TOGETHER if size > 1 else settings["batch"], count)
            sent += times * reduced * 4 * normal_equations.entries(size, channels, g.target)
    return sums, passes, solves, sent


def memory(network: Network, found: Chain, settings: dict) -> list[tuple[float, float]]:
    """What is held at the height of each inverter's largest solve, by all processes together.

    Args:
      network, found, settings: as for `flops`.

    Returns:
      Of each inverter, bytes of (all inputs, the features that this one is solved on, its regressors where they are
      kept; its matrices, which every process has).
    """
    num_validation, shapes, held, need = settings["num_validation"], feature_shapes(network), [], 0
    for (g, ks), count in zip(found, _counts(found, settings), strict=True):
        need = max(need, count)  # a shallower inverter reads all of its inputs through the deeper ones
        sent, after, before = (math.prod(shapes[split]) for split in (g.stop, g.index + 1, g.index))
        seen = need * (1 + num_validation / max(settings["num_images"], 1))
        regressors = 4 * seen * math.prod(g.grid) * g.channels
        inputs = 4 * (settings["num_images"] + num_validation) * math.prod(shapes[0]) + 4 * seen * (
            sent + after + 2 * before
        )
        kept = regressors if regressors <= solve_inverter.KEPT else 0
        held.append((inputs + kept, MATRICES * 8 * inverter.largest(g, ks) ** 2))
    return held


def _counts(found, settings):
    """So many inputs each inverter is solved on: of those that there are, where more are held out."""
    num_images, num_validation, samples_per_unknown = (
        settings[name] for name in ("num_images", "num_validation", "samples_per_unknown")
    )
    counts = inverter.enough(*zip(*found, strict=True), num_images, num_validation, samples_per_unknown)
    return [min(count, num_images) for count in counts]
