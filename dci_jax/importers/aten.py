"""PyTorch's core ATen operators in JAX: what an exported graph is made of. NCHW, pure, differentiable to any order.

One function for each operator, with ATen's own argument names and defaults
(https://docs.pytorch.org/docs/stable/torch.compiler_ir.html). `OPERATORS` is the table; what is not in it cannot be
converted. BatchNorm is not here: `program` taps its statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.importers.aten_spatial import (
    adaptive_avg_pool2d,
    avg_pool2d,
    convolution,
    max_pool2d_with_indices,
    pixel_shuffle,
    pixel_unshuffle,
    upsample_bilinear2d,
    upsample_nearest2d,
)
from dci_jax.typing import Array


def native_layer_norm(input: Array, normalized_shape: list[int], weight, bias, eps: float) -> tuple[Array, None, None]:
    """Over the last axes (Ba et al., 2016), in float32; mean and 1 / deviation, which no network uses, are left out."""
    return _normalised(input, tuple(range(-len(normalized_shape), 0)), weight, bias, eps, input.shape), None, None


def native_group_norm(input: Array, weight, bias, N: int, C: int, HxW: int, group: int, eps: float) -> tuple:
    """Over groups of channels [B, C, ...] (Wu & He, ECCV 2018), in float32."""
    del N, HxW
    grouped = input.reshape(len(input), group, -1)
    place = (1, C, *(1,) * (input.ndim - 2))
    weight, bias = (v if v is None else v.reshape(place) for v in (weight, bias))
    return _normalised(grouped, (-1,), weight, bias, eps, input.shape), None, None


def batch_norm_without_statistics(input: Array, weight, bias, *rest) -> tuple[Array, None, None]:
    """By the batch's own mean and variance: what an instance norm (Ulyanov et al., 2016) is made of.

    Raises:
      ValueError: there are running statistics, too: the network was exported in training mode.
    """
    if len(rest) != 3:
        raise ValueError("BatchNorm in training mode; export the network in evaluation mode")
    axes, place = (0, *range(2, input.ndim)), (-1, *(1,) * (input.ndim - 2))
    weight, bias = (v if v is None else v.reshape(place) for v in (weight, bias))
    return _normalised(input, axes, weight, bias, rest[2], input.shape), None, None


def _normalised(x, axes, weight, bias, eps, shape):
    wide = x.astype(jnp.float32)
    y = wide - jnp.mean(wide, axes, keepdims=True)
    y = (y * jax.lax.rsqrt(jnp.mean(y**2, axes, keepdims=True) + eps)).reshape(shape)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).astype(x.dtype)


def constant_pad_nd(input: Array, pad: list[int], value=0) -> Array:
    """Pads, or where negative cuts, from the last axis on."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    config = [(0, 0, 0)] * (input.ndim - len(pairs)) + [(low, high, 0) for low, high in pairs]
    return jax.lax.pad(input, jnp.asarray(value, input.dtype), config)


def slice_(input: Array, dim: int = 0, start=None, end=None, step: int = 1) -> Array:
    """input[..., start:end:step, ...] on axis `dim`."""
    places = [slice(None)] * input.ndim
    places[dim] = slice(start, end, step)
    return input[tuple(places)]


def slice_scatter(self: Array, src: Array, dim: int = 0, start=None, end=None, step: int = 1) -> Array:
    """`self` with `src` at [..., start:end:step, ...] on axis `dim`."""
    places = [slice(None)] * self.ndim
    places[dim] = slice(start, end, step)
    return self.at[tuple(places)].set(src)


def select_scatter(self: Array, src: Array, dim: int, index: int) -> Array:
    """`self` with `src` at one place of axis `dim`."""
    places = [slice(None)] * self.ndim
    places[dim] = index
    return self.at[tuple(places)].set(src)


def index(input: Array, indices: list) -> Array:
    """Advanced indexing; None keeps an axis."""
    return input[tuple(slice(None) if i is None else i for i in indices)]


def index_put(self: Array, indices: list, values: Array, accumulate: bool = False) -> Array:
    """Values written, or added, where `index` would read; None keeps an axis."""
    place = self.at[tuple(slice(None) if i is None else i for i in indices)]
    return place.add(values) if accumulate else place.set(values)


def as_strided(self: Array, size: list[int], stride: list[int], storage_offset: int = 0) -> Array:
    """What PyTorch puts behind a pooling to one pixel: another order in memory, of the same tensor.

    Raises:
      ValueError: it is another tensor.
    """
    del stride
    if tuple(size) != self.shape or storage_offset:
        raise ValueError(f"as_strided makes {size} of {self.shape}")
    return self


def unfold(self: Array, dimension: int, size: int, step: int) -> Array:
    """Windows of `size` on an axis, every `step`, as a last axis."""
    dimension %= self.ndim
    begin = np.arange((self.shape[dimension] - size) // step + 1) * step
    return jnp.moveaxis(jnp.take(self, begin[:, None] + np.arange(size), dimension), dimension + 1, -1)


def expand(input: Array, size: list[int], implicit: bool = False) -> Array:
    """Repeats axes of length 1; -1 keeps an axis."""
    del implicit
    old = (1,) * (len(size) - input.ndim) + input.shape
    return jnp.broadcast_to(input, [n if want == -1 else want for n, want in zip(old, size, strict=True)])


def split_with_sizes(input: Array, split_sizes: list[int], dim: int = 0) -> list[Array]:
    """Pieces of the given lengths along an axis."""
    return jnp.split(input, list(np.cumsum(split_sizes)[:-1]), dim)


def clamp(self: Array, min=None, max=None) -> Array:
    """Cut to [min, max]."""
    return jnp.clip(self, min, max)


def gelu(self: Array, approximate: str = "none") -> Array:
    """x Phi(x), exactly or by tanh."""
    return jax.nn.gelu(self, approximate=approximate == "tanh")


def elu(self: Array, alpha=1.0, scale=1.0, input_scale=1.0) -> Array:
    """scale (max(0, x) + alpha (exp(input_scale x) - 1) below 0)."""
    below = alpha * jnp.expm1(input_scale * jnp.minimum(self, 0))
    return scale * jnp.where(self > 0, self, below)


def linalg_vector_norm(self: Array, ord=2, dim=None, keepdim=False, *, dtype=None) -> Array:
    """The norm over the axes `dim`, all by default."""
    return jnp.linalg.vector_norm(self.astype(dtype or self.dtype), ord=ord, axis=dim and tuple(dim), keepdims=keepdim)


def addmm(self: Array, mat1: Array, mat2: Array, *, beta=1, alpha=1) -> Array:
    """beta self + alpha mat1 mat2."""
    return beta * self + alpha * (mat1 @ mat2)


def _reduced(function):
    def apply(self, dim=None, keepdim=False, *, dtype=None):
        y = function(self, axis=tuple(dim) if dim else None, keepdims=keepdim)
        return y if dtype is None else y.astype(dtype)

    return apply


def variance(self: Array, dim=None, *, correction=1, keepdim=False) -> Array:
    """With `correction` fewer degrees of freedom."""
    return jnp.var(self, tuple(dim) if dim else None, ddof=correction, keepdims=keepdim)


def _plus(sign):
    return lambda self, other, *, alpha=1: self + sign * (other if alpha == 1 else alpha * other)


def _divided(self, other, *, rounding_mode=None):
    return {None: lambda x: x, "floor": jnp.floor, "trunc": jnp.trunc}[rounding_mode](self / other)


def _as_it_is(x, *_, dtype=None, **__):
    return x if dtype is None else x.astype(dtype)


OPERATORS = {
    "convolution": convolution,
    "native_layer_norm": native_layer_norm,
    "native_group_norm": native_group_norm,
    "_native_batch_norm_legit": batch_norm_without_statistics,
    "max_pool2d_with_indices": max_pool2d_with_indices,
    "avg_pool2d": avg_pool2d,
    "_adaptive_avg_pool2d": adaptive_avg_pool2d,
    "upsample_nearest2d": upsample_nearest2d,
    "upsample_bilinear2d": upsample_bilinear2d,
    "linalg_vector_norm": linalg_vector_norm,
    "addmm": addmm,
    "mm": jnp.matmul,
    "bmm": jnp.matmul,
    "relu": jax.nn.relu,
    "leaky_relu": lambda self, negative_slope=0.01: jnp.where(self > 0, self, negative_slope * self),
    "elu": elu,
    "gelu": gelu,
    "hardtanh": lambda self, min_val=-1.0, max_val=1.0: jnp.clip(self, min_val, max_val),
    "clamp": clamp,
    "clamp_min": lambda self, min: jnp.maximum(self, min),
    "clamp_max": lambda self, max: jnp.minimum(self, max),
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "exp": jnp.exp,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "abs": jnp.abs,
    "neg": jnp.negative,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "erf": jax.lax.erf,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "sign": jnp.sign,
    "add": _plus(1),
    "sub": _plus(-1),
    "rsub": lambda self, other, alpha=1: other - alpha * self,
    "mul": lambda self, other: self * other,
    "div": _divided,
    "pow": lambda self, exponent: self**exponent,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "where": jnp.where,
    "eq": lambda self, other: self == other,
    "ne": lambda self, other: self != other,
    "gt": lambda self, other: self > other,
    "ge": lambda self, other: self >= other,
    "lt": lambda self, other: self < other,
    "le": lambda self, other: self <= other,
    "bitwise_not": jnp.bitwise_not,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "logical_not": jnp.logical_not,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "cumsum": lambda self, dim, *, dtype=None: jnp.cumsum(self, dim, dtype),
    "any": lambda self, dim=None, keepdim=False: jnp.any(self, dim, keepdims=keepdim),
    "mean": _reduced(jnp.mean),
    "sum": _reduced(jnp.sum),
    "amax": lambda self, dim=(), keepdim=False: jnp.max(self, tuple(dim) or None, keepdims=keepdim),
    "amin": lambda self, dim=(), keepdim=False: jnp.min(self, tuple(dim) or None, keepdims=keepdim),
    "max": lambda self, dim, keepdim=False: (
        jnp.max(self, dim, keepdims=keepdim),
        jnp.argmax(self, dim, keepdims=keepdim),
    ),
    "var": variance,
    "_softmax": lambda self, dim, half_to_float=False: jax.nn.softmax(self, dim),
    "_log_softmax": lambda self, dim, half_to_float=False: jax.nn.log_softmax(self, dim),
    "permute": jnp.transpose,
    "view": jnp.reshape,
    "reshape": jnp.reshape,
    "_unsafe_view": jnp.reshape,
    "unsqueeze": jnp.expand_dims,
    "squeeze": lambda self, dim: jnp.squeeze(
        self, tuple(d for d in ([dim] if isinstance(dim, int) else dim) if self.shape[d] == 1)
    ),
    "unfold": unfold,
    "expand": expand,
    "as_strided": as_strided,
    "cat": lambda tensors, dim=0: jnp.concatenate(tensors, dim),
    "slice": slice_,
    "select": lambda self, dim, index: jnp.take(self, index, dim),
    "index": index,
    "index_put": index_put,
    "index_select": lambda self, dim, index: jnp.take(self, index, dim),
    "slice_scatter": slice_scatter,
    "select_scatter": select_scatter,
    "split_with_sizes": split_with_sizes,
    "getitem": lambda values, number: values[number],
    "constant_pad_nd": constant_pad_nd,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "flip": jnp.flip,
    "roll": jnp.roll,
    "repeat": lambda self, repeats: jnp.tile(self, repeats),
    "full": lambda size, fill_value, *, dtype=jnp.float32, **_: jnp.full(size, fill_value, dtype),
    "full_like": lambda self, fill_value, *, dtype=None, **_: jnp.full_like(self, fill_value, dtype=dtype),
    "copy": lambda self, src, non_blocking=False: jnp.broadcast_to(src, self.shape).astype(self.dtype),
    "clone": _as_it_is,
    "alias": _as_it_is,
    "detach": _as_it_is,
    "_to_copy": _as_it_is,
}
