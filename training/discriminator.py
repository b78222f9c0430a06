"""The discriminator of SNGAN for 32 pixels (Miyato et al., ICLR 2018, table 4): images -> how real they look.

Every weight matrix W is divided by its largest singular value, estimated by power iteration: u is kept
with the weights, and takes one step after each update (`power_iteration`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

Array = jax.Array
Pytree = Any


class SpectralConvolution(nn.Module):
    """[B, H, W, C] -> [B, H, W, features], by a kernel of spectral norm 1, padded to keep the size.

    The norm is that of the matrix [features, size size C], as in the paper. The left singular vector u
    [features] is in the collection `spectral`.

    Attributes:
      features: channels of the output.
      size: side of the kernel.
    """

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        u = self.variable("spectral", "u", lambda: jax.random.normal(self.make_rng("params"), (self.features,)))
        kernel = kernel / spectral_norm(kernel, u.value)
        return (
            jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        )


class Block(nn.Module):
    """[B, H, W, C] -> [B, H / 2, W / 2, features], or of the same size; activations come before convolutions.

    Attributes:
      features: channels of the output.
      shrink: halve the size, by means of 2 x 2 pixels.
      first: the input is an image, which no ReLU may cut; it shrinks, its shortcut before the convolution.
    """

    features: int
    shrink: bool = False
    first: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x if self.first else nn.relu(x)
        y = SpectralConvolution(self.features, name="c1")(y)
        y = SpectralConvolution(self.features, name="c2")(nn.relu(y))
        if not (self.first or self.shrink):
            return y + x
        shortcut = SpectralConvolution(self.features, 1, name="c_sc")
        if self.first:
            return halved(y) + shortcut(halved(x))
        return halved(y) + halved(shortcut(x))


class Discriminator(nn.Module):
    """Images [B, 32, 32, 3] in [0, 1] -> [B]: above 0 where they look real.

    Attributes:
      features: channels, 128 in the paper.
    """

    features: int = 128

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = Block(self.features, shrink=True, first=True, name="block1")(2 * images - 1)
        x = Block(self.features, shrink=True, name="block2")(x)
        x = Block(self.features, name="block3")(x)
        x = Block(self.features, name="block4")(x)
        x = nn.relu(x).sum((1, 2), keepdims=True)
        return SpectralConvolution(1, 1, name="l5")(x)[:, 0, 0, 0]


def halved(x: Array) -> Array:
    """[B, H, W, C] -> [B, H / 2, W / 2, C], means of 2 x 2 pixels."""
    return nn.avg_pool(x, (2, 2), (2, 2))


def spectral_norm(kernel: Array, u: Array) -> Array:
    """u' W v, the largest singular value of W as far as u [features] tells; differentiable in W alone. Scalar."""
    matrix = kernel.reshape(-1, kernel.shape[-1]).T
    u = jax.lax.stop_gradient(_unit(u))
    v = jax.lax.stop_gradient(_unit(matrix.T @ u))
    return u @ (matrix @ v)


def power_iteration(variables: Pytree) -> Pytree:
    """Variables {"params", "spectral"} of a `Discriminator`, with every u one step nearer to its matrix's vector."""
    kernels = flatten_dict(variables["params"])
    found = {path: _step(kernels[*path[:-1], "kernel"], u) for path, u in flatten_dict(variables["spectral"]).items()}
    return {**variables, "spectral": unflatten_dict(found)}


def _step(kernel, u):
    matrix = kernel.reshape(-1, kernel.shape[-1]).T
    return _unit(matrix @ _unit(matrix.T @ u))


def _unit(vector):
    return vector / (jnp.linalg.norm(vector) + 1e-12)
