"""Convolutions one by one, ours and XLA's beside oneDNN's (cuDNN's on a GPU): `python -m benchmarks.convolutions`

Prints JSON: GFLOP/s forwards, for the gradient of the input and for that of the weights, of ours (`cpu_kernels/convolution.py`, with
`onednn.options()`), of XLA's own (NHWC), of PyTorch's and of PyTorch's in channels_last, taking turns; medians of the best of four calls in
a row. A ratio is ours to the better PyTorch's.
"""

import functools
import json
import os
import platform
import statistics
import time

import jax

from benchmarks import command
from benchmarks.usage import arguments
from dci_jax.cpu_kernels.convolution import convolve
from dci_jax.cpu_kernels.onednn import options

try:
    import torch
    from torch.nn.grad import conv2d_input, conv2d_weight
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

SHAPES = (  # batch, side, channels in, out, kernel, stride
    (128, 32, 3, 16, 3, 1),
    (128, 32, 16, 16, 3, 1),
    (128, 16, 32, 32, 3, 1),
    (128, 8, 64, 64, 3, 1),
    (128, 32, 16, 32, 3, 2),
    (40, 32, 48, 24, 3, 1),
    (8, 224, 3, 64, 7, 2),
    (8, 56, 64, 64, 3, 1),
    (8, 28, 128, 128, 3, 1),
    (8, 14, 256, 256, 3, 1),
    (8, 7, 512, 512, 3, 1),
    (8, 56, 64, 128, 3, 2),
    (4, 56, 64, 256, 1, 1),
    (4, 14, 1024, 256, 1, 1),
    (8, 14, 256, 512, 3, 2),
    (40, 8, 128, 64, 3, 1),
)
NUMBERS = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
REPEATS, WARM = 8, 2
DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"


def in_jax(way, told, batch, side, before, after, size, stride):
    """Kind -> a function that computes it once; `way` has the arguments of `jax.lax.conv_general_dilated`, `told` are XLA's options."""
    pad = (size // 2,) * 2
    x = jax.random.normal(jax.random.key(0), (batch, side, side, before))
    kernel = jax.random.normal(jax.random.key(1), (size, size, before, after))

    def conv(x, kernel):
        return way(x, kernel, (stride, stride), (pad, pad), dimension_numbers=NUMBERS)

    compiled = functools.partial(jax.jit, compiler_options=told)
    forward = compiled(conv)
    y = forward(x, kernel)
    to_input = compiled(lambda y, kernel: jax.vjp(lambda x: conv(x, kernel), x)[1](y))
    to_weight = compiled(lambda y, x: jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](y))
    return {
        "forward": lambda: forward(x, kernel).block_until_ready(),
        "input": lambda: jax.block_until_ready(to_input(y, kernel)),
        "weight": lambda: jax.block_until_ready(to_weight(y, x)),
    }


def in_torch(layout, batch, side, before, after, size, stride):
    """The same in PyTorch."""
    x = torch.randn(batch, before, side, side, device=DEVICE).to(memory_format=layout)
    kernel = torch.randn(after, before, size, size, device=DEVICE).to(memory_format=layout)
    step = dict(stride=stride, padding=size // 2)
    y = torch.conv2d(x, kernel, **step)
    calls = {
        "forward": lambda: torch.conv2d(x, kernel, **step),
        "input": lambda: conv2d_input(x.shape, kernel, y, **step),
        "weight": lambda: conv2d_weight(x, kernel.shape, y, **step),
    }

    def waiting(call):
        def once():
            call()
            if DEVICE == "cuda":
                torch.cuda.synchronize()

        return once

    return {kind: waiting(call) for kind, call in calls.items()}


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(*shape):
    """GFLOP/s of every kind: [ours, XLA, PyTorch, PyTorch channels_last]."""
    batch, side, before, after, size, stride = shape
    flops = 2 * batch * (side // stride) ** 2 * before * after * size**2
    sides = [
        in_jax(convolve, options(), *shape),
        in_jax(jax.lax.conv_general_dilated, None, *shape),
        in_torch(torch.contiguous_format, *shape),
        in_torch(torch.channels_last, *shape),
    ]
    found = {"batch, side, channels in, out, kernel, stride": shape}
    for kind in sides[0]:
        times = [[] for _ in sides]
        for _ in range(REPEATS + WARM):
            for calls, kept in zip(sides, times, strict=True):
                time.sleep(0.02)  # PyTorch's threads spin for a while after their work, and XLA would wait for them
                kept.append(min(seconds(calls[kind]) for _ in range(4)))
        medians = [statistics.median(kept[WARM:]) for kept in times]
        found[f"{kind}_gflops"] = [round(flops / median / 1e9, 1) for median in medians]
        found[f"{kind}_ratio"] = round(min(medians[2:]) / medians[0], 2)
    return found


def main():
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    result = {
        "command": command("benchmarks.convolutions"),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {threads} threads",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "rows": [row(*shape) for shape in SHAPES],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    arguments(__doc__, 0, 0)
    main()
