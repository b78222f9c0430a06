"""GELU by its tanh, whose derivative takes its input and nothing else: on a CPU memory is what it costs (docs/speed.md)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dci_jax.runtime.once import once

_ROOT = math.sqrt(2 / math.pi)
_CUBE = 0.044715


@jax.custom_jvp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x P(X <= x) of a normal X, [...] -> [...], by the tanh of Hendrycks & Gimpel (2016): what `flax.linen.gelu` gives.

    Its own derivative would keep the tanh for the way back, an array as large as x.
    """
    return 0.5 * x * (1 + _tanh(x))


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    (x,), (change,) = primals, tangents
    y, x = gelu(x), once(x)
    tanh = _tanh(x)
    return y, change * (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * _ROOT * (1 + 3 * _CUBE * x**2))


def _tanh(x):
    return jnp.tanh(_ROOT * (x + _CUBE * x**3))
