"""What a step would gain if XLA:CPU gave its convolutions to oneDNN: `python -m benchmarks.onednn`

JAX 0.10.2's wheel contains oneDNN and the code that calls it, but no pass that rewrites convolutions to it, whatever
the flags. This calls it by the name that such a pass would use, forwards and for the gradient of the input at stride 1. It is a
measurement and nothing to build on: the name and its settings are XLA's own affair, and a wrong one ends the process.
Prints JSON: GFLOP/s of forward convolutions, then milliseconds of a step, in turns with XLA's own code.
"""

import json
import os
import platform
import statistics
import time
from unittest import mock

from benchmarks.cases import cases  # before JAX computes: it sets what XLA reads
from benchmarks.side_by_side import jax_step

import jax  # isort: skip
import jax.numpy as jnp
import numpy as np

SHAPES = ((128, 32, 16), (128, 16, 32), (128, 8, 64), (4, 56, 64), (4, 14, 256))  # 3x3, stride 1
CASES = (
    "synthesis, ResNet-20, 32 px",
    "rMLE, ResNet-20 to layer2.2",
    "synthesis, ResNet-50, 224 px",
)
REPEATS, WARM = 20, 2

xla_conv = jax.lax.conv_general_dilated


def conv(x, kernel, window_strides, padding, **kwargs):
    """`jax.lax.conv_general_dilated` of images and kernels as all our models have them."""
    (low, high), stride = padding[0], window_strides[0]
    if x.dtype != jnp.float32 or kwargs.get("feature_group_count", 1) != 1 or low != high:
        return xla_conv(x, kernel, window_strides, padding, **kwargs)
    return _conv(stride, low, x, kernel)


def onednn(stride, pad, x, kernel):
    """[B, H, W, C] and [k, k, C, D] -> [B, H', W', D] by the custom call that XLA:CPU's runtime knows."""
    size, side = kernel.shape[0], (x.shape[1] + 2 * pad - kernel.shape[0]) // stride + 1
    image = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    filters = {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}
    window = {"size": size, "pad_left": pad, "pad_right": pad, "strides": stride, "window_dilations": 1}
    config = {
        "dims": 4,
        "input": image,
        "kernel": {"dims": 4, "filter": filters},
        "output": image,
        "window": {name: [value] * 2 for name, value in window.items()},
        "feature_groups": 1,
    }
    return jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((len(x), side, side, kernel.shape[3]), x.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )(x, kernel)


def _plain(stride, pad, x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return xla_conv(x, kernel, (stride,) * 2, ((pad, pad),) * 2, dimension_numbers=numbers)


def _forward(stride, pad, x, kernel):
    return onednn(stride, pad, x, kernel), (x, kernel)


def _backward(stride, pad, residuals, gradient):
    x, kernel = residuals
    input_gradient, weight_gradient = jax.vjp(lambda x, k: _plain(stride, pad, x, k), x, kernel)[1](gradient)
    if stride == 1:
        flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        input_gradient = onednn(1, kernel.shape[0] - 1 - pad, gradient, flipped)
    return input_gradient, weight_gradient


_conv = jax.custom_vjp(onednn, nondiff_argnums=(0, 1))
_conv.defvjp(_forward, _backward)


def in_turns(columns):
    """Name -> seconds of REPEATS calls, the columns taking turns."""
    times = {name: [] for name in columns}
    for number in range(REPEATS + WARM):
        for name in list(columns)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            columns[name]()
            times[name].append(time.perf_counter() - start)
    return {name: found[WARM:] for name, found in times.items()}


def convolution(batch, side, channels):
    """The row of one shape."""
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels)) / channels
    both = {name: jax.jit(lambda x, k, f=f: f(1, 1, x, k)) for name, f in (("xla", _plain), ("onednn", onednn))}
    np.testing.assert_allclose(*(f(x, kernel) for f in both.values()), atol=1e-4)
    times = in_turns({name: lambda f=f: jax.block_until_ready(f(x, kernel)) for name, f in both.items()})
    flops = 2 * 9 * channels**2 * batch * side**2
    rates = {name: round(flops / statistics.median(t) / 1e9, 1) for name, t in times.items()}
    return {"batch, side, channels": [batch, side, channels], "gflops": rates}


def step(name):
    """The row of one case of `benchmarks.cases`."""
    side = cases(False)[name]().jax("float32")
    columns = {"xla": jax_step(side)[0]}
    jax.clear_caches()
    with mock.patch.object(jax.lax, "conv_general_dilated", conv):
        columns["onednn"] = jax_step(side)[0]
    times = in_turns(columns)
    medians = {column: round(1e3 * statistics.median(t), 1) for column, t in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["xla"], times["onednn"], strict=True))
    return {"case": name, "step_ms": medians, "xla_over_onednn": round(ratio, 2)}


def main():
    rows = [*(convolution(*shape) for shape in SHAPES), *(step(name) for name in CASES)]
    threads = len(os.sched_getaffinity(0))
    result = {
        "command": "python -m benchmarks.onednn",
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {threads} threads",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "rows": rows,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
