"""Several tensors at one split as one array: the skips of a U-Net, the levels of a feature pyramid.

What is sent is all of them. The larger ones are folded onto the smallest grid (`join`), so that no number is lost and none
counted twice: defenses, messages and recorded dumps see one array. An inverter looks at them on the largest grid, on which the
smaller ones are repeated (`on_largest_grid`).
"""

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
      InputError: a grid is no whole multiple of the smallest, alike in height and width.
    """
    height, width = min(shape[:2] for shape in shapes)
    found = []
    for h, w, channels in shapes:
        factor = h // height
        if (h, w) != (height * factor, width * factor):
            raise InputError(
                f"The tensors {', '.join(str(list(s)) for s in shapes)} of one split lie on grids that are no whole multiples of the "
                "smallest; give images whose sides divide."
            )
        found.append((channels, factor))
    return tuple(found)


def join(tensors: Sequence[Float[Array, "B _ _ _"]]) -> Float[Array, "B h w c"]:
    """Tensors [B, h r, w r, c] as one array [B, h, w, sum of c r^2], each folded as PyTorch's `pixel_unshuffle` does."""
    lay = layout([t.shape[1:] for t in tensors])
    return jnp.concatenate([_folded(t, factor) for t, (_, factor) in zip(tensors, lay, strict=True)], -1)


def separate(x: Float[Array, "B h w c"], lay: Layout) -> list[Float[Array, "B _ _ _"]]:
    """The inverse of `join`."""
    found, start = [], 0
    for channels, factor in lay:
        stop = start + channels * factor**2
        part = x[..., start:stop].reshape(*x.shape[:3], channels, factor, factor)
        batch, h, w = x.shape[:3]
        found.append(part.transpose(0, 1, 4, 2, 5, 3).reshape(batch, h * factor, w * factor, channels))
        start = stop
    return found


def on_largest_grid(x: Float[Array, "B h w c"], lay: Layout) -> Float[Array, "B H W C"]:
    """The tensors of a joined array side by side on the largest of their grids, the smaller ones repeated; x without a layout."""
    if not lay:
        return x
    most = max(factor for _, factor in lay)
    tensors = separate(x, lay)
    repeated = [
        jnp.repeat(jnp.repeat(t, most // factor, 1), most // factor, 2)
        for t, (_, factor) in zip(tensors, lay, strict=True)
    ]
    return jnp.concatenate(repeated, -1)


def largest_grid(shape: tuple[int, ...], lay: Layout) -> tuple[int, ...]:
    """The shape (H, W, C) of `on_largest_grid` for an example of shape (h, w, c); `shape` without a layout."""
    if not lay:
        return shape
    most = max(factor for _, factor in lay)
    return shape[0] * most, shape[1] * most, sum(channels for channels, _ in lay)


def shapes(shape: tuple[int, int, int], lay: Layout) -> tuple[tuple[int, int, int], ...]:
    """The shape (h, w, c) of each tensor in a joined array of that shape."""
    return tuple((shape[0] * factor, shape[1] * factor, channels) for channels, factor in lay)


def _folded(x, factor):
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // factor, width // factor, channels * factor**2)
