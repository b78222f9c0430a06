"""What float32 costs on this device without TF32 or bfloat16 passes, and a stem's max pooling in both of its forms.

python -m benchmarks.device_rates > benchmarks/results/device_rates_h200.json
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp

from benchmarks.usage import arguments
from dci_jax.cpu_kernels.max_pool import max_pool

REPEATS = 20
POOLING = (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))


def milliseconds(function, *arguments):
    """The median of a compiled call."""
    function, times = jax.jit(function), []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[1:]), 3)


def matrix_product_rate(dtype: str, size: int = 2048, repeats: int = 12) -> float:
    """FLOP/s that a product of two square matrices of this size reaches on the first device, the best of some."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)  # ones draw less power, and a GPU would run faster
    product = jax.jit(jnp.matmul)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def select_and_scatter(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *POOLING)


def ours(x):
    return max_pool(x, *POOLING)


def backwards(function, x, change):
    return jax.vjp(function, x)[1](change)


def main():
    draw = jax.random.normal
    x, change = draw(jax.random.key(0), (128, 112, 112, 64)), draw(jax.random.key(1), (128, 56, 56, 64))
    found = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    for pool in (select_and_scatter, ours):
        found[f"pooling, {pool.__name__}"] = {
            "forward_ms": milliseconds(pool, x),
            "forward_backward_ms": milliseconds(lambda x, c, pool=pool: backwards(pool, x, c), x, change),
        }
    y, w = draw(jax.random.key(3), (128, 28, 28, 256)), draw(jax.random.key(2), (3, 3, 256, 256))
    a = draw(jax.random.key(4), (8192, 8192))
    for precision in ("default", "high", "highest"):
        layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "precision": precision}
        ms = milliseconds(lambda y, w, kw=layout: jax.lax.conv_general_dilated(y, w, (1, 1), "SAME", **kw), y, w)
        found[f"convolution, {precision}"] = {"ms": ms, "tflops": round(2e-9 * y.size * w[..., 0].size / ms, 1)}
        ms = milliseconds(lambda a, p=precision: jnp.matmul(a, a, precision=p), a)
        found[f"matrix product, {precision}"] = {"ms": ms, "tflops": round(2e-9 * 8192**3 / ms, 1)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    arguments(__doc__, 0, 0)
    main()
