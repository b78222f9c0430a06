"""A network out of any JAX functions, piece by piece: how to bring your own (docs/own_network.py)."""

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError, reason
from dci_jax.network import Block, Network
from dci_jax.tensors import Layout, join, layout, separate
from dci_jax.typing import Array, Pytree


def sequential(
    name: str,
    input_shape: tuple[int, ...],
    pieces: Sequence[tuple[str, Callable, Pytree]],
    head: tuple[Callable, Pytree] | None = None,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    crop: float = 1.0,
) -> Network:
    """Build a network from any JAX functions (example: docs/own_network.py).

    Args:
      name: name in reports.
      input_shape: (H, W, C) of one input image in [0, 1].
      pieces: (split point, function, params) for each block. The function is pure,
        `(params, x) -> y`, or `(params, x) -> (y, statistics)` as in `Block`. For Flax modules see
        `dci_jax.models.layers.flax_piece`. Where several tensors [B, h, w, c] are sent, y is a list of them, and x of the
        next piece (`dci_jax.tensors`): the branches of an HRNet, say.
      head: (function, params), features -> logits [B, classes]; None if it does not classify.
      mean, std, crop: as in `Network`.

    Raises:
      InputError: no piece, a duplicate split point, a piece that does not accept the previous one's output, or an invalid
        `input_shape`, `mean`, `std` or `crop`.
    """
    check_images(name, input_shape, mean, std, crop)
    names = [piece[0] for piece in pieces]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{name} has the split points {names}; give one or more, each once.")
    pieces = [*pieces, ("head", *head)] if head else pieces
    x, lay, blocks = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32), (), []
    for piece_name, function, params in pieces:
        shapes = [list(leaf.shape) for leaf in jax.tree.leaves(x)]
        try:
            y = jax.eval_shape(function, params, x)
        except Exception as error:  # any exception: the functions are the user's
            raise InputError(
                f"{name}: {piece_name!r} does not accept features of shape {', '.join(map(str, shapes))} ({reason(error)}); "
                "correct it or the piece before it."
            ) from error
        plain = isinstance(y, tuple) and not lay and not isinstance(y[0], tuple | list)
        apply = function if plain and _has_statistics(y) else functools.partial(_apply, function, lay)
        x = y[0] if _has_statistics(y) else y
        lay = _layout(name, piece_name, x)
        blocks.append(Block(params, piece_name, apply, tensors=lay))
    blocks, last = (blocks[:-1], blocks[-1]) if head else (blocks, None)
    return Network(tuple(blocks), last, name, tuple(input_shape), mean, std, crop)


_UNITS = 10.0  # of a mean or deviation of pixels in [0, 1], generously


def check_images(name: str, shape: Any, mean: Any, std: Any, crop: Any) -> None:
    """Raise InputError unless a network can have this input shape, normalization, and share that is cut out of a picture."""
    if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(_whole(side) for side in shape):
        raise InputError(f"{name} has the input shape {shape!r}; give (height, width, channels) of one image.")
    for what, values in (("mean", mean), ("std", std)):
        several = isinstance(values, tuple | list | np.ndarray) and np.shape(values) in ((1,), (shape[2],))
        if not several or not all(_real(v) and (what == "mean" or v > 0) for v in values):
            above = " above 0" * (what == "std")
            raise InputError(
                f"{name} has {what} {values!r}; give a tuple of one finite number{above}, or of one for each channel."
            )
        if max(map(abs, values)) > _UNITS:
            raise InputError(
                f"{name} has {what} {values!r}; images are in [0, 1], so divide numbers for 0 to 255 by 255."
            )
    if not _real(crop) or not 0 < crop <= 1:
        raise InputError(f"{name} has crop {crop!r}; give a share of the image's side, above 0 and at most 1.")


def _whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def _real(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _apply(function: Callable, lay: Layout, params: Pytree, x: Array) -> tuple[Array, Pytree]:
    """The `apply` of a block: its function takes the tensors that lie in x by `lay`, or x itself."""
    y = function(params, separate(x, lay) if lay else x)
    y, statistics = y if _has_statistics(y) else (y, {})
    return (join(y) if isinstance(y, tuple | list) else y), statistics


def _has_statistics(y: Any) -> bool:
    return isinstance(y, tuple) and len(y) == 2 and isinstance(y[1], dict)


def _layout(name, piece, x):
    """How several tensors lie in one array; () of one."""
    if not isinstance(x, tuple | list):
        return ()
    if not x or any(getattr(leaf, "ndim", 0) != 4 for leaf in x):
        what = ", ".join(str(list(leaf.shape)) if hasattr(leaf, "shape") else type(leaf).__name__ for leaf in x)
        raise InputError(
            f"{name}: {piece!r} returns a {type(x).__name__} of {what or 'nothing'}; let it return one array, (array, dict of BatchNorm's "
            "statistics), or a list of features [B, h, w, c]."
        )
    return layout([leaf.shape[1:] for leaf in x])
