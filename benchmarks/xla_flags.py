"""What XLA:CPU's convolutions gain without YNNPACK, the flag that dci_jax/runtime/process.py sets: `python -m benchmarks.xla_flags`

Prints JSON: for each shape GFLOP/s of the forward convolution and milliseconds of the gradient of its
weights, with YNNPACK (JAX's default) and without. Both are measured in turns, each in a process of its
own, because XLA reads its flags once; the ratio is the median over neighbours.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

from benchmarks.usage import arguments

FLAG = "--xla_cpu_experimental_ynn_fusion_type="
SHAPES = ((32, 32, 64), (128, 32, 16), (128, 8, 64), (4, 56, 64), (4, 14, 256))  # 3x3, stride 1
ROUNDS, REPEATS = 5, 20


def conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.jit
def weight_gradient(x, kernel, gradient):
    return jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](gradient)[0]


def seconds(function, *arguments):
    """Median wall time of one call."""
    times = []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def measure():
    """(forward, weight gradient) seconds of every shape in this process."""
    found, forward = [], jax.jit(conv)
    for batch, side, channels in SHAPES:
        x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels)) / channels
        y = jnp.copy(x)
        found.append((seconds(forward, x, kernel), seconds(weight_gradient, x, kernel, y)))
    return found


def child(flag):
    """`measure` in a process with these flags; this package is not imported there, so no others."""
    environment = os.environ | {"XLA_FLAGS": flag}
    command = [sys.executable, "-m", "benchmarks.xla_flags", "child"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def main():
    pairs = [(child(""), child(FLAG)) for _ in range(ROUNDS)]
    rows = []
    for i, (batch, side, channels) in enumerate(SHAPES):
        flops = 2 * 9 * channels**2 * batch * side**2
        row = {"batch, side, channels": [batch, side, channels]}
        for kind, what in enumerate(("forward", "weight_gradient")):
            times = [(a[i][kind], b[i][kind]) for a, b in pairs]
            both = [statistics.median(time[which] for time in times) for which in (0, 1)]
            if what == "forward":
                row["forward_gflops"] = [round(flops / s / 1e9, 1) for s in both]
            else:
                row["weight_gradient_ms"] = [round(1e3 * s, 2) for s in both]
            ratios = [a / b for a, b in times]
            row[f"{what}_ratio"] = round(statistics.median(ratios), 2)
            row[f"{what}_ratio_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
        rows.append(row)
    print(
        json.dumps(
            {
                "command": "python -m benchmarks.xla_flags",
                "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
                "python": platform.python_version(),
                "jax": jax.__version__,
                "columns": ["with YNNPACK", "without"],
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["child"]:
        print(json.dumps(measure()))
    else:
        arguments(__doc__, 0, 0)
        main()
