"""Several tensors at one split as one array: the skips of a U-Net, the levels of a feature pyramid.

What is sent is all of them. The larger ones are folded onto the smallest grid (`join`), so that no number is lost and none
counted twice: defenses, messages and recorded dumps see one array. An inverter looks at them on one grid, on which the smaller
ones are repeated (`on_grid`).
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.errors import InputError
from dci_jax.typing import Array

OUTPUTS = "outputs"  # the split point at which a network's features are sent, all of them
Layout = tuple[tuple[int, int], ...]  # (channels, how much larger than the smallest grid) of each tensor


def layout(shapes: Sequence[tuple[int, int, int]]) -> Layout:
    """How tensors of these shapes (h, w, c) lie in one array.

    Raises:
      InputError: a grid is no whole multiple of a smaller one, alike in height and width.
    """
    height, width = min(shape[:2] for shape in shapes)
    found = tuple((channels, h // height) for h, _, channels in shapes)
    whole = all(
        (h, w) == (height * factor, width * factor) for (h, w, _), (_, factor) in zip(shapes, found, strict=True)
    )
    factors = sorted({factor for _, factor in found})
    if not whole or any(large % small for small, large in itertools.pairwise(factors)):
        raise InputError(
            f"The tensors {', '.join(str(list(s)) for s in shapes)} of one split lie on grids that are no whole multiples of the "
            "smaller ones; give images whose sides divide."
        )
    return found


def join(tensors: Sequence[Float[Array, "B _ _ _"]]) -> Float[Array, "B h w c"]:
    """Tensors [B, h r, w r, c] as one array [B, h, w, sum of c r^2], each folded as PyTorch's `pixel_unshuffle` does."""
    lay = layout([t.shape[1:] for t in tensors])
    return jnp.concatenate([_folded(t, factor) for t, (_, factor) in zip(tensors, lay, strict=True)], -1)


def separate(x: Float[Array, "B h w c"], lay: Layout) -> list[Float[Array, "B _ _ _"]]:
    """The inverse of `join`.

    Raises:
      InputError: x has not as many channels, as for images of a size at which the grids differ by other factors.
    """
    if x.shape[-1] != sum(channels * factor**2 for channels, factor in lay):
        raise InputError(
            f"The features have {x.shape[-1]} channels, but the tensors of this split have "
            f"{' + '.join(f'{channels} x {factor**2}' for channels, factor in lay)}; give images whose sides divide as the network's "
            "own do."
        )
    found, start = [], 0
    for channels, factor in lay:
        stop = start + channels * factor**2
        part = x[..., start:stop].reshape(*x.shape[:3], channels, factor, factor)
        batch, h, w = x.shape[:3]
        found.append(part.transpose(0, 1, 4, 2, 5, 3).reshape(batch, h * factor, w * factor, channels))
        start = stop
    return found


def on_grid(x: Float[Array, "B h w c"], lay: Layout, factor: int) -> Float[Array, "B H W C"]:
    """The tensors of a joined array side by side on the grid that is `factor` times the smallest; x without a layout.

    Those on larger grids are folded, those on smaller ones repeated.
    """
    if not lay:
        return x
    found = []
    for tensor, (_, own) in zip(separate(x, lay), lay, strict=True):
        repeats = max(factor // own, 1)
        found.append(_folded(jnp.repeat(jnp.repeat(tensor, repeats, 1), repeats, 2), max(own // factor, 1)))
    return jnp.concatenate(found, -1)


def grid_shape(shape: tuple[int, ...], lay: Layout, factor: int) -> tuple[int, ...]:
    """The shape (H, W, C) of `on_grid` for an example of shape (h, w, c); `shape` without a layout."""
    if not lay:
        return shape
    channels = sum(channels * max(own // factor, 1) ** 2 for channels, own in lay)
    return shape[0] * factor, shape[1] * factor, channels


def shapes(shape: tuple[int, int, int], lay: Layout) -> tuple[tuple[int, int, int], ...]:
    """The shape (h, w, c) of each tensor in a joined array of that shape."""
    return tuple((shape[0] * factor, shape[1] * factor, channels) for channels, factor in lay)


def _folded(x, factor):
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // factor, width // factor, channels * factor**2)
