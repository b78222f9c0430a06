"""ONNX operators in JAX, of opset 13 to the newest: what convolutional networks and vision transformers are exported to. NCHW.

One function for each operator (https://onnx.ai/onnx/operators/): its inputs, None where one is left out, then its
attributes by name. Shapes, axes and scales come as NumPy arrays. `OPERATORS` is the table; what is not in it cannot be read.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.importers import onnx_spatial

DTYPES = {1: np.float32, 6: np.int32, 7: np.int32, 9: np.bool_, 10: np.float16, 11: np.float32, 16: jnp.bfloat16}


def batch_normalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1):
    """By the running statistics (Ioffe & Szegedy, ICML 2015)."""
    if training_mode:
        raise ValueError("BatchNormalization in training mode; export the network in evaluation mode")
    place = (-1, *(1,) * (x.ndim - 2))
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return x * factor.reshape(place) + (bias - mean * factor).reshape(place)


def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    """Each channel of each image by its own mean and variance."""
    place = (-1, *(1,) * (x.ndim - 2))
    return _standardized(x, tuple(range(2, x.ndim)), epsilon) * scale.reshape(place) + bias.reshape(place)


def group_normalization(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    """Over groups of channels; scale and bias of each channel, or of each group (opset 18)."""
    channels, place = x.shape[1], (-1, *(1,) * (x.ndim - 2))
    scale, bias = (v if len(v) == channels else jnp.repeat(v, channels // num_groups) for v in (scale, bias))
    y = _standardized(x.reshape(len(x), num_groups, -1), (2,), epsilon).reshape(x.shape)
    return y * scale.reshape(place) + bias.reshape(place)


def layer_normalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    """Over all axes from `axis` on."""
    y = _standardized(x, tuple(range(axis % x.ndim, x.ndim)), epsilon) * scale
    return y if bias is None else y + bias


def _standardized(x, axes, epsilon):
    y = x - jnp.mean(x, axes, keepdims=True)
    return y * jax.lax.rsqrt(jnp.mean(y**2, axes, keepdims=True) + epsilon)


def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):  # ONNX's names
    """alpha a b + beta c."""
    y = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return y if c is None else y + beta * c


def pad(x, pads, value=None, axes=None, *, mode="constant"):
    """Pads, or where negative cuts."""
    axes = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes]
    sides = [(0, 0)] * x.ndim
    for axis, low, high in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        sides[axis] = (int(low), int(high))
    if mode != "constant":
        return jnp.pad(x, sides, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])
    value = jnp.asarray(0 if value is None else value, x.dtype).reshape(())
    return jax.lax.pad(x, value, [(low, high, 0) for low, high in sides])


def slice_(x, starts, ends, axes=None, steps=None):
    """x[..., start:end:step, ...]."""
    axes = range(len(starts)) if axes is None else axes
    places = [slice(None)] * x.ndim
    for i, axis in enumerate(axes):
        step, n = 1 if steps is None else int(steps[i]), x.shape[int(axis)]
        start, end = int(starts[i]), int(ends[i])
        end = None if (step < 0 and end < -n) or end > n else end
        places[int(axis)] = slice(start if start <= n else None, end, step)
    return x[tuple(places)]


def split(x, split=None, *, axis=0, num_outputs=0):
    """Pieces along an axis, of the given lengths or equal."""
    if split is None:
        each = -(-x.shape[axis] // num_outputs)
        split = [min(each, x.shape[axis] - i * each) for i in range(num_outputs)]
    return tuple(jnp.split(x, np.cumsum(split)[:-1].tolist(), axis))


def reshape(x, shape, *, allowzero=0):
    """0 keeps a length, -1 is what is left."""
    shape = [x.shape[i] if n == 0 and not allowzero else int(n) for i, n in enumerate(shape)]
    return x.reshape(shape)


def expand(x, shape):
    """Broadcast to `shape`, both ways."""
    return jnp.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(map(int, shape))))


def squeeze(x, axes=None):
    """Without axes of length 1."""
    return jnp.squeeze(x, None if axes is None else tuple(map(int, axes)))


def unsqueeze(x, axes):
    """With axes of length 1, counted in the result."""
    return jnp.expand_dims(x, tuple(map(int, axes)))


def flatten(x, *, axis=1):
    """Two axes of all, cut before `axis`."""
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _reduced(function):
    def apply(x, axes=None, *, keepdims=1, noop_with_empty_axes=0, **attributes):
        axes = attributes.get("axes", axes)
        if axes is None and noop_with_empty_axes:
            return x
        return function(x, None if axes is None else tuple(map(int, axes)), keepdims=bool(keepdims))

    return apply


def _softmax(function):
    return lambda x, *, axis=-1: function(x, axis)


def _folded(function):
    return lambda *values: functools.reduce(function, values)


def _clip(x, low=None, high=None):
    return jnp.clip(x, low, high)


def _cast(x, *, to, saturate=1, round_mode="up"):
    return x.astype(DTYPES.get(to, np.float32))


def _parametric(x, slope):
    return jnp.where(x < 0, slope * x, x)


def _same(x, *_, **__):
    return x


OPERATORS = {
    "Conv": onnx_spatial.conv,
    "ConvTranspose": onnx_spatial.conv_transpose,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
    "LRN": onnx_spatial.lrn,
    "MaxPool": onnx_spatial.pool_max,
    "AveragePool": onnx_spatial.pool_average,
    "GlobalAveragePool": lambda x: jnp.mean(x, tuple(range(2, x.ndim)), keepdims=True),
    "GlobalMaxPool": lambda x: jnp.max(x, tuple(range(2, x.ndim)), keepdims=True),
    "Resize": onnx_spatial.resize,
    "DepthToSpace": onnx_spatial.depth_to_space,
    "SpaceToDepth": onnx_spatial.space_to_depth,
    "Gemm": gemm,
    "MatMul": jnp.matmul,
    "Einsum": lambda *operands, equation: jnp.einsum(equation, *operands),
    "Relu": jax.nn.relu,
    "LeakyRelu": lambda x, *, alpha=0.01: jnp.where(x < 0, alpha * x, x),
    "PRelu": _parametric,
    "Elu": lambda x, *, alpha=1.0: jax.nn.elu(x, alpha),
    "Selu": lambda x, *, alpha=1.67326319, gamma=1.05070102: gamma * jax.nn.elu(x, alpha),
    "Celu": lambda x, *, alpha=1.0: jax.nn.celu(x, alpha),
    "Sigmoid": jax.nn.sigmoid,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: jnp.clip(alpha * x + beta, 0, 1),
    "HardSwish": lambda x: x * jnp.clip(x / 6 + 0.5, 0, 1),
    "Swish": lambda x, *, alpha=1.0: x * jax.nn.sigmoid(alpha * x),
    "Mish": jax.nn.mish,
    "Softplus": jax.nn.softplus,
    "Softsign": jax.nn.soft_sign,
    "Gelu": lambda x, *, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
    "Tanh": jnp.tanh,
    "Erf": jax.lax.erf,
    "Exp": jnp.exp,
    "Log": jnp.log,
    "Sqrt": jnp.sqrt,
    "Reciprocal": jnp.reciprocal,
    "Abs": jnp.abs,
    "Neg": jnp.negative,
    "Sign": jnp.sign,
    "Sin": jnp.sin,
    "Cos": jnp.cos,
    "Floor": jnp.floor,
    "Ceil": jnp.ceil,
    "Round": jnp.round,
    "Clip": _clip,
    "Add": jnp.add,
    "Sub": jnp.subtract,
    "Mul": jnp.multiply,
    "Div": lambda a, b: a / b if jnp.issubdtype(a.dtype, jnp.floating) else jnp.trunc(a / b).astype(a.dtype),
    "Pow": jnp.power,
    "Mod": lambda a, b, *, fmod=0: jnp.fmod(a, b) if fmod else jnp.mod(a, b),
    "Max": _folded(jnp.maximum),
    "Min": _folded(jnp.minimum),
    "Sum": _folded(jnp.add),
    "Mean": lambda *values: functools.reduce(jnp.add, values) / len(values),
    "Softmax": _softmax(jax.nn.softmax),
    "LogSoftmax": _softmax(jax.nn.log_softmax),
    "ReduceMean": _reduced(jnp.mean),
    "ReduceSum": _reduced(jnp.sum),
    "ReduceMax": _reduced(jnp.max),
    "ReduceMin": _reduced(jnp.min),
    "ReduceL2": _reduced(lambda x, axes, keepdims: jnp.sqrt(jnp.sum(x**2, axes, keepdims=keepdims))),
    "ReduceSumSquare": _reduced(lambda x, axes, keepdims: jnp.sum(x**2, axes, keepdims=keepdims)),
    "Pad": pad,
    "Concat": lambda *values, axis: jnp.concatenate(values, axis),
    "Split": split,
    "Slice": slice_,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": lambda x, *, perm=None: jnp.transpose(x, perm),
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": lambda x, repeats: jnp.tile(x, tuple(map(int, repeats))),
    "Gather": lambda x, indices, *, axis=0: jnp.take(x, indices, axis),
    "Where": jnp.where,
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Not": jnp.logical_not,
    "And": jnp.logical_and,
    "Or": jnp.logical_or,
    "Cast": _cast,
    "CastLike": lambda x, like, **_: x.astype(jax.dtypes.canonicalize_dtype(like.dtype)),
    "Identity": _same,
    "Dropout": _same,
}  # fmt: skip
