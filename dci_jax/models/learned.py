"""Convolutions that are learned, those of inverters, decoders and encoders: the weights of a `flax.linen.Conv`, apart from what is done with them.

A layer of several inputs can so be told in parts, and what they have in common be computed once; and a bias has a gradient that
a CPU is fast at.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.cpu_kernels.convolution import NHWC, convolve
from dci_jax.cpu_kernels.moments import total
from dci_jax.typing import Array


class Weights(nn.Module):
    """A kernel [k, k, C, D] and a bias [D], float32, with the names and first values that `flax.linen.Conv` gives them.

    Attributes:
      shape: (k, k, C, D).
      init: of the kernel.
    """

    shape: tuple[int, int, int, int]
    init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        return self.param("kernel", self.init, self.shape), self.param("bias", nn.initializers.zeros, self.shape[-1:])


def conv(x: Float[Array, "B ..."], weights: tuple[Array, Array], dtype: str) -> Float[Array, "B ..."]:
    """A convolution [B, H, W, C] -> [B, H, W, D] of odd size, padded by half of it, computed in `dtype`."""
    kernel, bias = weights
    return biased(unbiased(x, kernel, dtype), bias)


def unbiased(x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"], dtype: str) -> Float[Array, "B H W D"]:
    """`conv` without its bias."""
    pad = len(kernel) // 2
    return convolve(x.astype(dtype), kernel.astype(dtype), (1, 1), ((pad, pad),) * 2, dimension_numbers=NHWC)


@jax.custom_vjp
def biased(y: Float[Array, "*n D"], bias: Float[Array, "D"]) -> Float[Array, "*n D"]:
    """y + bias, in y's dtype; the bias's gradient is summed in float32, five times as fast as by XLA:CPU (docs/speed.md)."""
    return y + bias.astype(y.dtype)


def _forward(y, bias):
    return biased(y, bias), None


def _backward(_, change):
    return change, total(_float32, change)


def _float32(part):
    return part.astype(jnp.float32)


biased.defvjp(_forward, _backward)
