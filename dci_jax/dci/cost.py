"""The cost of a chain of solved inverters, computed before solving: FLOPs, traffic and memory."""

import math

import jax
import jax.numpy as jnp

from dci_jax.dci import inverter, normal_equations, solve_inverter
from dci_jax.dci.inverter import InverterSpec, inverter_spec
from dci_jax.dci.ridge import MATRICES
from dci_jax.network import Network, feature_shapes, run, single_block
from dci_jax.runtime.flops import flops as count_flops

# Of each inverter, the shallowest first: (inverter_spec, neighbourhoods).
Chain = list[tuple[InverterSpec, tuple[int, int]]]
_COPIES = 5  # of regressors while they are summed: side by side, transformed along one axis, then along both (XLA's own count)
_RIDGES = 3  # that are tried, about, for a first map and a first correction; validation images judge each


def inverter_specs(network: Network, depth: int, settings: dict, shared: bool = False) -> Chain:
    """The inverters of a chain through `depth` blocks.

    Args:
      network: the target, for inputs of the size to solve on.
      depth: the split's number.
      settings: settings of `dci`.
      shared: one chain for all splits, whose inverters do not see the features sent at the deepest.
    """
    shapes = feature_shapes(network)
    found = [inverter_spec(network, index, None if shared else depth, shapes) for index in range(depth)]
    return [(g, inverter.kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"])) for g in found]


def sums_flops(g: InverterSpec, ks: tuple[int, int], height: int, width: int) -> tuple[float, float]:
    """FLOPs of the sums of a first map and of a correction, for one input whose smaller grid is [height, width]."""
    return tuple(
        normal_equations.flops(k, height, width, c, g.target) for k, c in zip(ks, (g.sent, g.channels), strict=True)
    )


def flops(network: Network, found: Chain, settings: dict) -> dict[str, float]:
    """The cost of a chain if every correction is tried.

    Args:
      network: the target, for inputs of the size to solve on.
      found: as `inverter_specs` returns them.
      settings: settings of `dci`.

    Returns:
      FLOPs by kind: "products" and "sums", of the sums over single pixels and over neighbourhoods; "passes", through the
      network and back, and of the maps themselves; "factorisation", in float64. All devices share all but the last.
      "sent": bytes that each device sends to add up the sums.
    """
    num_images, num_validation, num_corrections = (
        settings[name] for name in ("num_images", "num_validation", "num_corrections")
    )
    counts, shapes = _counts(found, settings), feature_shapes(network)
    forward = []
    for index in range(len(found)):
        x = jax.ShapeDtypeStruct((1, *shapes[index]), jnp.float32)
        forward.append(count_flops(_run.trace(single_block(network, index), x)))
    total = dict.fromkeys(("products", "sums", "passes", "factorisation", "sent"), 0.0)
    for (g, ks), count in zip(found, counts, strict=True):
        held = count * num_validation / max(num_images, 1)
        first, correction = sums_flops(g, ks, *g.grid)
        ways = 2 * sum(forward[g.index : g.stop]) + (g.stop > g.index + 1) * forward[g.index]
        for size, work in zip(ks, (first, num_corrections * correction), strict=True):
            total["products" if size == 1 else "sums"] += count * work
        total["passes"] += (count + held) * num_corrections * ways
        for size, channels, times in ((ks[0], g.sent, 1), (ks[1], g.channels, num_corrections)):
            unknowns, ridges = size**2 * channels, times - 1 + _RIDGES
            total["factorisation"] += ridges * (unknowns**3 / 3 + 2 * unknowns**2 * g.target)
            step = 2 * unknowns * g.target * math.prod(g.grid)
            total["passes"] += (times * (count + held) + ridges * held) * step
            batch = min(settings["batch"], count)
            numbers = size, math.ceil(count / batch), batch, batch * math.prod(g.grid), channels
            reduced = count / (batch * solve_inverter.together(*numbers))
            total["sent"] += times * reduced * 4 * normal_equations.entries(size, channels, g.target)
    return total


def memory(network: Network, found: Chain, settings: dict) -> list[tuple[float, float, float]]:
    """Peak memory of each inverter's largest solve, over all processes together.

    Args:
      network, found, settings: as for `flops`.

    Returns:
      For each inverter, bytes of (all inputs, the features that it is solved on, and its regressors if they are
      kept; its matrices, which every process holds; what its sums work on before there are matrices).
    """
    num_validation, shapes, held, need = settings["num_validation"], feature_shapes(network), [], 0
    for (g, ks), count in zip(found, _counts(found, settings), strict=True):
        need = max(need, count)  # a shallower inverter gets all of its inputs through the deeper ones
        sent, after, before = (math.prod(shapes[split]) for split in (g.stop, g.index + 1, g.index))
        seen = need * (1 + num_validation / max(settings["num_images"], 1))
        regressors = 4 * seen * math.prod(g.grid) * g.channels
        inputs = 4 * (settings["num_images"] + num_validation) * math.prod(shapes[0]) + 4 * seen * (
            sent + after + 2 * before
        )
        kept = regressors if regressors <= solve_inverter.KEPT else 0
        group = max(_group(count, settings, g, *pair) for pair in zip(ks, (g.sent, g.channels), strict=True))
        held.append((inputs + kept, MATRICES * 8 * inverter.largest(g, ks) ** 2, _COPIES * group))
    return held


def _group(count, settings, g, size, channels):
    """Bytes of the regressors that are summed at a time."""
    batch = min(settings["batch"], count)
    pixels = batch * math.prod(g.grid)
    return 4 * pixels * channels * solve_inverter.together(size, math.ceil(count / batch), batch, pixels, channels)


def _counts(found, settings):
    """Number of inputs that each inverter is solved on, at most `num_images` even if validation has more."""
    num_images, num_validation, samples_per_unknown = (
        settings[name] for name in ("num_images", "num_validation", "samples_per_unknown")
    )
    counts = inverter.enough(*zip(*found, strict=True), num_images, num_validation, samples_per_unknown)
    return [min(count, num_images) for count in counts]


_run = jax.jit(run)
