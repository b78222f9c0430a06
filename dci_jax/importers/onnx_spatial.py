"""ONNX operators that look at neighbours in an image: convolution, pooling, resizing. NCHW.

Inputs, None where one is left out, then attributes by name (https://onnx.ai/onnx/operators/).
"""

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.importers import aten_spatial


def conv(x, weight, bias=None, *, auto_pad="NOTSET", dilations=(), group=1, kernel_shape=(), pads=(), strides=()):
    """[B, C, *space] -> [B, D, *space']; `weight` [D, C / group, *kernel]."""
    rank = x.ndim - 2
    strides, dilations = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    low, high = _pads(x.shape[2:], weight.shape[2:], strides, dilations, auto_pad, pads)
    if low != high:
        x, low = jnp.pad(x, ((0, 0), (0, 0), *zip(low, high, strict=True))), (0,) * rank
    return aten_spatial.convolution(x, weight, bias, strides, low, dilations, False, (0,) * rank, group)


def conv_transpose(
    x, weight, bias=None, *, auto_pad="NOTSET", dilations=(), group=1, kernel_shape=(), output_padding=(), pads=(), strides=(), output_shape=()
):  # fmt: skip
    """[B, C, *space] -> [B, D, *space']; `weight` [C, D / group, *kernel]."""
    rank = x.ndim - 2
    pads = tuple(pads) or (0,) * (2 * rank)
    if auto_pad != "NOTSET" or output_shape or pads[:rank] != pads[rank:]:
        raise ValueError("ConvTranspose with auto_pad, output_shape or uneven pads")
    strides, dilations, more = (tuple(v) or (n,) * rank for v, n in ((strides, 1), (dilations, 1), (output_padding, 0)))
    return aten_spatial.convolution(x, weight, bias, strides, pads[:rank], dilations, True, more, group)


def _pads(sizes, kernel, strides, dilations, auto_pad, pads):
    """(before, behind) on each axis."""
    rank = len(sizes)
    if auto_pad in ("NOTSET", ""):
        pads = tuple(pads) or (0,) * (2 * rank)
        return pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        return (0,) * rank, (0,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    total = [max((-(-size // s) - 1) * s + r - size, 0) for size, s, r in zip(sizes, strides, reach, strict=True)]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def _windows(x, kernel, strides, auto_pad, pads, ceil_mode):
    """(window, strides, pads) of a pooling, and how much of the last ceil_mode added."""
    strides = tuple(strides) or (1,) * len(kernel)
    low, high = _pads(x.shape[2:], kernel, strides, (1,) * len(kernel), auto_pad, pads)
    more = []
    for size, k, s, a, b in zip(x.shape[2:], kernel, strides, low, high, strict=True):
        count = -(-(size + a + b - k) // s) if ceil_mode else (size + a + b - k) // s
        count -= ceil_mode and count * s >= size + a  # no window begins behind the image
        more.append(max(count * s + k - size - a - b, 0))
    padding = ((0, 0), (0, 0), *((a, b + m) for a, b, m in zip(low, high, more, strict=True)))
    return (1, 1, *kernel), (1, 1, *strides), padding, more


def pool_max(x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=(), pads=(), storage_order=0, strides=()):
    """The largest of each window."""
    if set(dilations) - {1}:
        raise ValueError("pooling with dilation, of which JAX has no gradient")
    window, strides, padding, _ = _windows(x, kernel_shape, strides, auto_pad, pads, ceil_mode)
    return max_pool(x, window, strides, padding)


def pool_average(
    x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=(), pads=(), strides=()
):
    """The mean of each window."""
    window, strides, padding, more = _windows(x, kernel_shape, strides, auto_pad, pads, ceil_mode)
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding)
    sides = [(low, high - m) for (low, high), m in zip(padding[2:], more, strict=True)]
    ones = np.pad(np.ones(x.shape[2:], np.float32), sides, constant_values=float(count_include_pad))
    rest = tuple((0, m) for m in more)
    count = jax.lax.reduce_window(ones, 0.0, jax.lax.add, window[2:], strides[2:], rest)
    return total / count


def lrn(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Local response normalization over channels (Krizhevsky et al., NIPS 2012)."""
    reach = ((0, 0), ((size - 1) // 2, size // 2), *((0, 0),) * (x.ndim - 2))
    window = (1, size, *(1,) * (x.ndim - 2))
    total = jax.lax.reduce_window(x**2, 0.0, jax.lax.add, window, (1,) * x.ndim, reach)
    return x / (bias + alpha / size * total) ** beta


def resize(
    x, roi=None, scales=None, sizes=None, *, mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor", antialias=0, axes=(), cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0, keep_aspect_ratio_policy="stretch"
):  # fmt: skip
    """Larger or smaller, by the nearest pixel or linearly."""
    if mode not in ("nearest", "linear") or antialias or keep_aspect_ratio_policy != "stretch":
        raise ValueError(f"Resize of mode {mode!r}{' with antialias' * bool(antialias)}")
    axes = tuple(axes) or range(x.ndim)
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        want = int(sizes[i]) if sizes is not None and len(sizes) else int(np.floor(size * scales[i]))
        if want == size:
            continue
        factor = float(scales[i]) if scales is not None and len(scales) else want / size
        at = np.arange(want)
        at = {
            "half_pixel": lambda at, n=size, f=factor: (at + 0.5) / f - 0.5,
            "pytorch_half_pixel": lambda at, f=factor, w=want: (at + 0.5) / f - 0.5 if w > 1 else 0.0 * at,
            "asymmetric": lambda at, f=factor: at / f,
            "align_corners": lambda at, n=size, w=want: at * (n - 1) / max(w - 1, 1),
        }[coordinate_transformation_mode](at)
        if mode == "nearest":
            near = {
                "floor": np.floor,
                "ceil": np.ceil,
                "round_prefer_floor": lambda v: np.ceil(v - 0.5),
                "round_prefer_ceil": lambda v: np.floor(v + 0.5),
            }[nearest_mode](at)
            x = jnp.take(x, np.clip(near, 0, size - 1).astype(int), axis)
        else:
            at = np.clip(at, 0, size - 1)
            low = np.floor(at).astype(int)
            share = np.float32(at - low).reshape(-1, *(1,) * (x.ndim - axis - 1))
            x = jnp.take(x, low, axis) * (1 - share) + jnp.take(x, np.minimum(low + 1, size - 1), axis) * share
    return x


def depth_to_space(x, *, blocksize, mode="DCR"):
    """[B, C r^2, H, W] -> [B, C, H r, W r]."""
    b, c, h, w = x.shape
    r = blocksize
    split, order = ((r, r, c // r**2), (0, 3, 4, 1, 5, 2)) if mode == "DCR" else ((c // r**2, r, r), (0, 1, 4, 2, 5, 3))
    return x.reshape(b, *split, h, w).transpose(order).reshape(b, c // r**2, h * r, w * r)


def space_to_depth(x, *, blocksize):
    """[B, C, H r, W r] -> [B, C r^2, H, W]."""
    b, c, h, w = x.shape
    r = blocksize
    x = x.reshape(b, c, h // r, r, w // r, r)
    return x.transpose(0, 3, 5, 1, 2, 4).reshape(b, c * r**2, h // r, w // r)
