"""materialize(x): a value that is computed once, however many read it.

XLA:CPU puts what is cheap, sums and ReLUs, into every loop that reads it: behind a chain of residual blocks, each reader of
the last one's features computes all of them again, out of every convolution's result (docs/speed.md).
"""

import jax


def materialize(x: jax.Array) -> jax.Array:
    """`x` itself, [...]. An accelerator is left to decide for itself."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x
