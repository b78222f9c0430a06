"""Mean and variance of a batch by channel: what data-free synthesis matches after every layer of every step.

Features are read twice for them and a third time for their gradient, so that on a CPU memory is what they cost. XLA:CPU adds up
columns of more than 32 rows by windows, which is fast, those of fewer one element after the other, which is ten times as slow,
and writes what is to be added up, such as squares, to memory first (docs/speed.md): `total` avoids the two.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.typing import Array

_ROWS = 32  # up to so many XLA:CPU adds up one by one


@jax.custom_jvp
def moments(x: Float[Array, "*n C"]) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Mean and biased variance over all axes but the last: float32 [..., C] -> [C] and [C].

    In two passes: the one-pass formula loses small variances entirely. The derivative is written out, since the
    variance does not change with its mean, which automatic differentiation does not see and sums over the whole array
    for: a synthesis step is 1.2 times as fast (docs/speed.md).
    """
    mean = _mean(_same, x)
    return mean, _mean(lambda part: (part - mean) ** 2, x)


@moments.defjvp
def _moments_jvp(primals, tangents):
    (x,), (change,) = primals, tangents
    mean, var = moments(x)
    axes = tuple(range(x.ndim - 1))
    return (mean, var), (jnp.mean(change, axes), jnp.mean(2 * (x - mean) * change, axes))


def _same(part):
    return part


def _mean(of, x):
    return total(of, x) / math.prod(x.shape[:-1])


def total(of: Callable[[Array], Array], x: Float[Array, "*n C"]) -> Float[Array, "C"]:
    """The sum of `of(x)`, an elementwise function, over all axes but the last.

    On a CPU up to 8 parts of each image are added to each other first, in one loop with `of`; then rows, which are W times
    as wide as a pixel, then the pixels of a row.
    """
    if jax.default_backend() != "cpu" or x.ndim != 4:
        return jnp.sum(of(x), tuple(range(x.ndim - 1)))
    batch, height, width, channels = x.shape
    parts = next((n for n in (8, 4, 2) if height % n == 0 and batch * height // n > _ROWS), 1)
    slabs = x.reshape(batch, parts, height // parts, width, channels)
    summed = sum(of(slabs[:, part]) for part in range(parts))
    return _sum_rows(_sum_rows(summed.reshape(-1, width * channels)).reshape(width, channels))


def _sum_rows(x: Float[Array, "R K"]) -> Float[Array, "K"]:
    if len(x) > _ROWS:
        return jnp.sum(x, 0)
    window = len(x), 1
    return jax.lax.reduce_window(x, np.float32(0), jax.lax.add, window, window, "VALID")[0]
