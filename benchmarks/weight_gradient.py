"""How much faster a weight gradient is in strips (dci_jax/models/convolution.py): `python -m benchmarks.weight_gradient`

Prints JSON: for each shape the median milliseconds of XLA's own gradient and of ours, alternating,
and the median of the ratios of neighbours.
"""

import json
import platform
import statistics
import sys
import time

import jax
import numpy as np

from dci_jax.models.convolution import weight_gradient

SHAPES = ((3, 112, 64, 64), (3, 56, 64, 64), (3, 56, 96, 64), (8, 56, 64, 64), (4, 28, 128, 128), (8, 32, 48, 48), (40, 32, 48, 48))  # fmt: skip
REPEATS = 20


def xla(x, gradient):
    """The gradient as XLA derives it."""

    def conv(kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    zeros = np.zeros((3, 3, x.shape[-1], gradient.shape[-1]), np.float32)
    return jax.vjp(conv, zeros)[1](gradient)[0]


def seconds(function, *arguments):
    """Wall time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def main():
    rng = np.random.default_rng(0)
    ours, theirs = jax.jit(weight_gradient, static_argnums=2), jax.jit(xla)
    rows = []
    for batch, size, before, after in SHAPES:
        x = jax.device_put(rng.normal(size=(batch, size, size, before)).astype(np.float32))
        g = jax.device_put(rng.normal(size=(batch, size, size, after)).astype(np.float32))
        a, b = ours(x, g, 3), theirs(x, g)
        error = float(abs(a - b).max() / abs(b).max())
        assert error < 1e-4, f"the gradients differ by {error}"
        pairs = [(seconds(theirs, x, g), seconds(ours, x, g, 3)) for _ in range(REPEATS)]
        rows.append(
            {
                "batch, size, channels in, out": [batch, size, before, after],
                "xla_ms": round(1e3 * statistics.median(p[0] for p in pairs), 2),
                "strips_ms": round(1e3 * statistics.median(p[1] for p in pairs), 2),
                "ratio": round(statistics.median(p[0] / p[1] for p in pairs), 2),
                "relative_error": error,
            }
        )
    machine = f"{jax.devices()[0].device_kind}, {platform.machine()}"
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    result = {
        "command": " ".join(["python", *sys.argv]),
        "device": machine,
        **versions,
        "rows": rows,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
