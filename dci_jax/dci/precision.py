"""The inverse covariance of an inverter's errors, which weights them before they are routed back: generalised least squares.

    P = (E[e e^T] + RIDGE tr(E[e e^T]) / C  I)^-1          for the errors e [C] of one pixel, scaled to a mean diagonal of one

J^T e follows the channels whose errors are largest; J^T P e, the gradient of the errors' log-likelihood if they are Gaussian,
those that say most. A map of J^T e cannot make up for it, because it comes after J^T. e is what the block, or the network from there
to the split, makes of the first map's estimate, beside what it should be.
"""

from collections.abc import Sequence

import numpy as np

from dci_jax.dci import inverter
from dci_jax.dci.inverter import InverterSpec
from dci_jax.network import Network, feature_shapes
from dci_jax.runtime import sharding
from dci_jax.runtime.compile_ahead import program
from dci_jax.typing import Array

RIDGE = 0.01  # relative to the mean variance
PIXELS = 10  # for each channel, of the errors that are averaged
CHANNELS = 4096  # at most: a fully connected layer's, or those of several tensors in one array, are not weighted
# Nor are those behind a defense: what a codec leaves of a channel is rarely other than zero, and weights of what is rare mislead.


def of_errors(
    g: InverterSpec, network: Network, seen: Sequence[Array], f: Sequence[Array], x: Sequence[Array]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """P of the errors at this block's output and, before the split, at the split: float32 [C, C]; None: not weighted.

    Arguments as for `inverter.regressors`, in batches; as many are used as have `PIXELS` errors for each channel.
    """
    counts = channels(g, network)
    totals, enough = [0.0 if count else None for count in counts], not any(counts)
    pixels = [0, 0]
    for batch in zip(seen, f, x, strict=True):
        if enough:
            break
        for place, (_, error) in enumerate(inverter.errors(g, network, *batch)):
            if counts[place]:
                totals[place] += np.float64(sharding.fetch(products(error)))
                pixels[place] += error.size // error.shape[-1]
        enough = all(have >= PIXELS * count for have, count in zip(pixels, counts, strict=True))
    return tuple(None if total is None else _inverse(total) for total in totals)


def channels(g: InverterSpec, network: Network) -> tuple[int, int]:
    """Channels of the errors that are weighted, at this block's output and at the split beyond it; 0 where they are not."""
    return _channels(network, g.index), _channels(network, g.stop - 1) if g.stop > g.index + 1 else 0


def _channels(network, index):
    found, block = feature_shapes(network)[index + 1][-1], network.blocks[index]
    return 0 if block.tensors or block.sends is not None or found > CHANNELS else found


@program
def products(error):
    """sum of e e^T, [C, C]."""
    rows = error.reshape(-1, error.shape[-1])
    return rows.T @ rows


def _inverse(total):
    unit, trace = np.eye(len(total)), np.trace(total)
    if not (np.isfinite(trace) and trace > 0):
        return np.float32(unit)
    found = np.linalg.inv(total / trace * len(total) + RIDGE * unit)
    return np.float32(found / np.trace(found) * len(total))
