"""Core ATen operators that look at neighbours in an image: convolution, pooling, resizing. NCHW."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.typing import Array


def convolution(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Array:
    """[B, C, *space] -> [B, D, *space']; `weight` [D, C / groups, *kernel], transposed [C, D / groups, *kernel]."""
    rank, space = input.ndim - 2, "DHW"[5 - input.ndim :]
    stride, padding, dilation, more = (_each(v, rank) for v in (stride, padding, dilation, output_padding))
    names = (f"NC{space}", f"OI{space}", f"NC{space}")
    input = input.astype(weight.dtype)
    if transposed:  # a convolution of the input with zeros between its pixels
        kernel = weight.shape[2:]
        weight = jnp.flip(weight, range(2, weight.ndim)).reshape(groups, -1, *weight.shape[1:])
        weight = jnp.swapaxes(weight, 1, 2).reshape(-1, weight.shape[1], *kernel)
        reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        pads = [(r, r + m) for r, m in zip(reach, more, strict=True)]
        strides, spread = (1,) * rank, stride
    else:
        pads, strides, spread = [(p, p) for p in padding], stride, (1,) * rank
    if weight.shape[1] == 1 and groups == len(weight) == input.shape[1] and not transposed and rank == 2:
        y = jax.lax.platform_dependent(
            input,
            weight,
            cpu=functools.partial(_depthwise, strides, pads, dilation),
            default=functools.partial(_direct, strides, pads, spread, dilation, names, groups),
        )
    else:
        y = _direct(strides, pads, spread, dilation, names, groups, input, weight)
    return y if bias is None else y + bias.astype(y.dtype).reshape(-1, *(1,) * rank)


def _direct(strides, pads, spread, dilation, names, groups, input, weight):
    return jax.lax.conv_general_dilated(
        input, weight, strides, pads, spread, dilation, dimension_numbers=names, feature_group_count=groups
    )


def _depthwise(strides, pads, dilation, input, weight):
    """One kernel for each channel, as a sum of shifted images: XLA:CPU's convolution is up to 200 times slower."""
    padded = jnp.pad(input, ((0, 0), (0, 0), *pads))
    shape = [
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(padded.shape[2:], dilation, weight.shape[2:], strides, strict=True)
    ]
    total = 0
    for y, x in np.ndindex(*weight.shape[2:]):
        (top, bottom), (left, right) = (
            (d * place, d * place + s * (n - 1) + 1)
            for d, place, s, n in zip(dilation, (y, x), strides, shape, strict=True)
        )
        seen = padded[:, :, top : bottom : strides[0], left : right : strides[1]]
        total = total + seen * weight[:, 0, y, x][:, None, None]
    return total


def _each(values, rank):
    values = [values] if isinstance(values, int) else list(values)
    return tuple(values * rank if len(values) == 1 else values)


def _windows(input, kernel_size, stride, padding, ceil_mode):
    """(window, strides, pads) of a pooling, the last with what ceil_mode adds at the end."""
    rank = len(kernel_size)
    kernel, padding = (_each(v, rank) for v in (kernel_size, padding))
    stride, pads = _each(stride or kernel, rank), []
    for size, k, s, p in zip(input.shape[-rank:], kernel, stride, padding, strict=True):
        free = size + 2 * p - k
        count = (math.ceil(free / s) if ceil_mode else free // s) + 1
        count -= (count - 1) * s >= size + p  # no window begins behind the image
        pads.append((p, max(p, (count - 1) * s + k - size - p)))
    front = input.ndim - rank
    return (1,) * front + kernel, (1,) * front + stride, ((0, 0),) * front + tuple(pads)


def max_pool2d_with_indices(input: Array, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False) -> tuple:
    """The largest of each window; the indices, which no classifier uses, are left out."""
    if set(_each(dilation, 2)) != {1}:
        raise ValueError(f"pooling has dilation {dilation}, and JAX no gradient for it")
    window, strides, pads = _windows(input, kernel_size, stride, padding, ceil_mode)
    return max_pool(input, window, strides, pads), None


def avg_pool2d(
    input: Array, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
) -> Array:
    """The mean of each window."""
    window, strides, pads = _windows(input, kernel_size, stride, padding, ceil_mode)
    total = jax.lax.reduce_window(input, 0.0, jax.lax.add, window, strides, pads)
    if divisor_override:
        return total / divisor_override
    ones = np.ones(input.shape[-len(kernel_size) :], np.float32)
    sides = _each(padding, len(kernel_size))
    ones = np.pad(ones, [(p, p) for p in sides], constant_values=float(count_include_pad))
    rest = tuple((0, high - p) for (_, high), p in zip(pads[-len(sides) :], sides, strict=True))
    front = len(kernel_size)
    count = jax.lax.reduce_window(ones, 0.0, jax.lax.add, window[-front:], strides[-front:], rest)
    return total / count.astype(total.dtype)


def adaptive_avg_pool2d(input: Array, output_size: list[int]) -> Array:
    """[..., H, W] -> [..., h, w]: means over windows that may overlap where the sizes do not divide."""
    rows, columns = (
        jnp.asarray(_shares(size, want), input.dtype) for size, want in zip(input.shape[-2:], output_size, strict=True)
    )
    return jnp.einsum("...hw,yh,xw->...yx", input, rows, columns)


def _shares(size, want):
    """[want, size]: which pixels a window averages, and how much of each."""
    found = np.zeros((want, size), np.float32)
    for i in range(want):
        begin, end = i * size // want, math.ceil((i + 1) * size / want)
        found[i, begin:end] = 1 / (end - begin)
    return found


def upsample_nearest2d(self: Array, output_size: list[int] | None, *scales) -> Array:
    """[..., H, W] -> [..., *output_size]: each pixel the nearest one above it on the left."""
    sizes = zip(self.shape[-2:], _resized(self, output_size, scales), strict=True)
    rows, columns = (np.arange(want) * size // want for size, want in sizes)
    return self[..., rows, :][..., columns]


def upsample_bilinear2d(self: Array, output_size: list[int] | None, align_corners: bool, *scales) -> Array:
    """[..., H, W] -> [..., *output_size] by linear interpolation between centres of pixels."""
    sizes = zip(self.shape[-2:], _resized(self, output_size, scales), strict=True)
    rows, columns = (jnp.asarray(_between(size, want, align_corners), self.dtype) for size, want in sizes)
    return jnp.einsum("...hw,yh,xw->...yx", self, rows, columns)


def _resized(x, output_size, scales):
    """The size asked for, or the present one times the factors."""
    if output_size is not None:
        return output_size
    return [int(size * factor) for size, factor in zip(x.shape[-2:], scales[0], strict=True)]


def _between(size, want, align_corners):
    """[want, size]: how much of which two pixels."""
    if align_corners:
        at = np.arange(want) * (size - 1) / max(want - 1, 1)
    else:
        at = np.maximum((np.arange(want) + 0.5) * size / want - 0.5, 0)
    low = np.floor(at).astype(int)
    found = np.zeros((want, size), np.float32)
    found[np.arange(want), low] += 1 - (at - low)
    found[np.arange(want), np.minimum(low + 1, size - 1)] += at - low
    return found


def pixel_shuffle(self: Array, upscale_factor: int) -> Array:
    """[B, C r^2, H, W] -> [B, C, H r, W r] (Shi et al., CVPR 2016)."""
    b, c, h, w = self.shape
    r = upscale_factor
    return self.reshape(b, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(b, c // r**2, h * r, w * r)


def pixel_unshuffle(self: Array, downscale_factor: int) -> Array:
    """The inverse of `pixel_shuffle`."""
    b, c, h, w = self.shape
    r = downscale_factor
    return self.reshape(b, c, h // r, r, w // r, r).transpose(0, 1, 3, 5, 2, 4).reshape(b, c * r**2, h // r, w // r)
