"""Max pooling, one axis after the other, whose gradient is made of comparisons and sums: what a CPU is fast at (docs/speed.md)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.typing import Array


def max_pool(
    x: Float[Array, "B ..."], window: tuple[int, ...], strides: tuple[int, ...], pads: tuple[tuple[int, int], ...]
) -> Float[Array, "B ..."]:
    """The largest of each window; of several the gradient goes to the first, as in PyTorch.

    Args:
      x: any shape.
      window, strides, pads: one for each axis, 1, 1 and (0, 0) of those that are not pooled; what is padded is never largest.
    """
    # The last axis first: of equal values the first is then that of the first row.
    for axis in reversed(range(x.ndim)):
        if (window[axis], strides[axis], tuple(pads[axis])) != (1, 1, (0, 0)):
            x = _along(x, axis, window[axis], strides[axis], tuple(pads[axis]))
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def _along(x, axis, window, stride, pads):
    return functools.reduce(jnp.maximum, _places(x, -jnp.inf, axis, window, stride, pads))


@_along.defjvp
def _along_jvp(axis, window, stride, pads, primals, tangents):
    (x,), (change,) = primals, tangents
    y = _along(x, axis, window, stride, pads)
    moved, found = jnp.zeros_like(y), jnp.zeros(y.shape, bool)
    values, changes = (_places(a, fill, axis, window, stride, pads) for a, fill in ((x, -jnp.inf), (change, 0.0)))
    for value, changed in zip(values, changes, strict=True):
        here = (value == y) & ~found
        moved, found = moved + jnp.where(here, changed, 0), found | here
    return y, moved


def _places(a, fill, axis, window, stride, pads):
    """What lies at each place of a window, for all windows along an axis: as many arrays as a window has places."""
    size, low = a.shape[axis], pads[0]
    count = (size + sum(pads) - window) // stride + 1
    for place in range(window):
        before = max(0, -(-(low - place) // stride))  # windows whose place lies in front of the array
        after = max(0, count - 1 - (size - 1 + low - place) // stride)  # and behind it
        before = min(before, count - after)  # an image of one pixel may have no window with this place in it
        first = min(stride * before + place - low, size)
        last = first + max(0, stride * (count - before - after - 1) + 1)
        part = jax.lax.slice_in_dim(a, first, last, stride, axis)
        # Padded one by one, which XLA fuses; padded before, the whole array is written once more.
        yield jnp.pad(part, [(before, after) if n == axis else (0, 0) for n in range(a.ndim)], constant_values=fill)
