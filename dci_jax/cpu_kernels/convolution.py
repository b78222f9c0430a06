"""A convolution whose gradients are those that a CPU is fast at, by the shapes at hand; its value is XLA's own.

XLA:CPU has one way for every gradient (`python -m benchmarks.convolutions`, docs/speed.md). Three are better told otherwise: of
a kernel that is larger than its images (`turned`: the images are turned, not the kernel), of strides, where XLA puts zeros
between the pixels (`by_places`, `folded`: the same sums without them), and of the weights (`correlated`: the side with more
channels is the kernel, and oneDNN is not given it). An accelerator is given XLA's own.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from dci_jax.typing import Array

Pair = tuple[int, int]

NHWC = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
_FEW = 4  # channels of an image that are folded


def convolve(
    x: Float[Array, "B ..."], kernel: Array, window_strides: Sequence[int], padding: Sequence[Pair], **how
) -> Float[Array, "B ..."]:
    """What `jax.lax.conv_general_dilated` gives, with its arguments: the `conv_general_dilated` of a `flax.linen.Conv`."""
    plain = how.get("feature_group_count", 1) == 1 and how.get("dimension_numbers") == NHWC
    for spread in ("lhs_dilation", "rhs_dilation"):
        plain &= set(how.get(spread) or (1,)) == {1}
    plain &= kernel.shape[:2] != (1, 1)  # of a single place XLA's own is as fast or faster
    if jax.default_backend() != "cpu" or not plain or x.dtype != jnp.float32:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **how)
    return _by_shape(tuple(window_strides), tuple(map(tuple, padding)), x, kernel)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _by_shape(strides, pads, x, kernel):
    return directly(strides, pads, x, kernel)


@functools.partial(_by_shape.defjvp, symbolic_zeros=True)
def _by_shape_jvp(strides, pads, primals, tangents):
    """Linear in either; a gradient is the transpose of what is written here, so that its way is that of the gradient."""
    (x, kernel), (dx, dk) = primals, tangents
    y = directly(strides, pads, x, kernel)
    if isinstance(dx, SymbolicZero) and isinstance(dk, SymbolicZero):
        return y, jnp.zeros_like(y)
    learned = _way_of_kernel(strides)
    if isinstance(dx, SymbolicZero):
        return y, learned(strides, pads, x, dk)
    moved = _way_of_input(strides, pads, x, kernel)(strides, pads, dx, kernel)
    return y, moved if isinstance(dk, SymbolicZero) else moved + learned(strides, pads, x, dk)


def _way_of_input(strides, pads, x, kernel):
    """The function whose transpose is the gradient of the input."""
    if strides == (1, 1):
        return turned if kernel.size > x.size else directly
    return folded if _foldable(strides, pads, x.shape, kernel.shape) else by_places


def _way_of_kernel(strides):
    """The function whose transpose is the gradient of the kernel."""
    return correlated if strides == (1, 1) else directly


def _foldable(strides, pads, image, kernel):
    even = strides == (2, 2) and image[1] % 2 == image[2] % 2 == 0
    return even and image[3] <= _FEW and len({*pads[0], *pads[1]}) == 1 and kernel[0] == kernel[1] == 2 * pads[0][0] + 1


def directly(
    strides: Pair, pads: tuple[Pair, Pair], x: Float[Array, "B H W C"], kernel: Float[Array, "k l C D"]
) -> Float[Array, "B h w D"]:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=NHWC)


def turned(
    strides: Pair, pads: tuple[Pair, Pair], x: Float[Array, "B H W C"], kernel: Float[Array, "k l C D"]
) -> Float[Array, "B h w D"]:
    """A convolution of stride 1 of images turned by 180 degrees, turned back; its gradient does not turn the kernel."""
    back = tuple((high, low) for low, high in pads)
    return directly(strides, back, x[:, ::-1, ::-1], kernel[::-1, ::-1])[:, ::-1, ::-1]


def correlated(
    strides: Pair, pads: tuple[Pair, Pair], x: Float[Array, "B H W C"], kernel: Float[Array, "k l C D"]
) -> Float[Array, "B h w D"]:
    """A convolution of stride 1, written as the transpose of the kernel's gradient, which here is a convolution of turned sides.

    The gradient correlates the images with the output's gradient: one of the two is the kernel, the one with more channels,
    so that matrices are wide, and both are turned by 180 degrees. A turned kernel is one that oneDNN is not given; of one as
    large as an image it makes a slow convolution.
    """
    wide = kernel.shape[2] > kernel.shape[3]
    back = [
        (k - 1 - high, k - 1 - low) if wide else (high, low) for k, (low, high) in zip(kernel.shape, pads, strict=False)
    ]

    def gradient(y):
        image, other = (y, x) if wide else (x, y)
        image = image[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        other = jax.lax.rev(other.transpose(1, 2, 0, 3), (0, 1))
        found = jax.lax.conv_general_dilated(image, other, strides, back, dimension_numbers=NHWC)
        return found.transpose(1, 2, 3, 0) if wide else found.transpose(1, 2, 0, 3)[::-1, ::-1]

    y = jax.eval_shape(functools.partial(directly, strides, pads), x, kernel)
    return jax.linear_transpose(gradient, y)(kernel)[0]


def by_places(
    strides: Pair, pads: tuple[Pair, Pair], x: Float[Array, "B H W C"], kernel: Float[Array, "k l C D"]
) -> Float[Array, "B h w D"]:
    """Any convolution, written as the transpose of its gradient, which is one matrix product and sums of shifted parts of it.

    Pixel s i + r of the input has a part of the output at i - q for each place s q + r of the kernel.
    """
    batch, height, width, channels = x.shape
    grid = -(-height // strides[0]), -(-width // strides[1])

    def back(y):
        parts = jnp.einsum("bhwd,klcd->bhwklc", y, kernel)
        planes = [[jnp.zeros((batch, *grid, channels)) for _ in range(strides[1])] for _ in range(strides[0])]
        for place in np.ndindex(*kernel.shape[:2]):
            (q, r), (p, s) = (divmod(at - low, step) for at, (low, _), step in zip(place, pads, strides, strict=True))
            beside = (q, grid[0] - y.shape[1] - q, 0), (p, grid[1] - y.shape[2] - p, 0)
            shifted = jax.lax.pad(parts[:, :, :, *place], np.float32(0), ((0, 0, 0), *beside, (0, 0, 0)))
            planes[r][s] = planes[r][s] + shifted
        whole = jnp.stack([jnp.stack(row, 3) for row in planes], 2)
        return whole.reshape(batch, grid[0] * strides[0], -1, channels)[:, :height, :width]

    y = jax.eval_shape(functools.partial(directly, strides, pads), x, kernel)
    return jax.linear_transpose(back, y)(x)[0]


def folded(
    strides: Pair, pads: tuple[Pair, Pair], x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]
) -> Float[Array, "B H//2 W//2 D"]:
    """A convolution of stride 2, odd size and half of it for padding, as one of stride 1 on pixels folded by two into channels."""
    size, pad = len(kernel), pads[0][0]
    lead = pad % 2  # so that a window begins at an even pixel
    whole = -(-(size + lead) // 2)
    kernel = jnp.pad(kernel, ((lead, 2 * whole - size - lead),) * 2 + ((0, 0),) * 2)
    low = (pad + lead) // 2
    beside = ((low, whole - 1 - low),) * 2
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    kernel = kernel.reshape(whole, 2, whole, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    x, kernel = x.reshape(*x.shape[:3], -1), kernel.reshape(whole, whole, 4 * channels, -1)
    return directly((1, 1), beside, x, kernel)
