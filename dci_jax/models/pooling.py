"""Max pooling whose gradient is made of comparisons and sums, which a CPU is three times as fast at (docs/speed.md)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, window: tuple[int, ...], strides: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> Array:
    """The largest of each window; of several the gradient goes to the first, as in PyTorch.

    Args:
      x: any shape.
      window, strides, pads: one for each axis, 1, 1 and (0, 0) of those that are not pooled; what is padded is never largest.
    """
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)


@max_pool.defjvp
def _max_pool_jvp(window, strides, pads, primals, tangents):
    (x,), (change,) = primals, tangents
    y = max_pool(x, window, strides, pads)
    moved, found = jnp.zeros_like(y), jnp.zeros(y.shape, bool)
    values, changes = (_places(a, fill, y.shape, window, strides, pads) for a, fill in ((x, -jnp.inf), (change, 0.0)))
    for value, changed in zip(values, changes, strict=True):
        here = (value == y) & ~found
        moved, found = moved + jnp.where(here, changed, 0), found | here
    return y, moved


def _places(a, fill, shape, window, strides, pads):
    """What lies at each place of a window, for all windows: as many arrays of `shape` as a window has places."""
    a = jnp.pad(a, pads, constant_values=fill)
    for first in itertools.product(*map(range, window)):
        last = [f + s * (n - 1) + 1 for f, s, n in zip(first, strides, shape, strict=True)]
        yield jax.lax.slice(a, first, last, strides)
