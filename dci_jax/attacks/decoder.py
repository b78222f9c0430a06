"""A plain decoder, features -> image, and a plain encoder, features -> latent: the networks of `inverse_network`."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.dci.grid import shuffle, unshuffle
from dci_jax.models.learned import Weights, conv
from dci_jax.tensors import Layout, on_grid
from dci_jax.typing import Array


class Decoder(nn.Module):
    """Features -> input, without access to the network: He et al.'s inverse network (ACSAC 2019).

    [B, h, w, c] -> [B, h downsampling, w downsampling, channels]: two convolutions at every resolution, each
    doubling by pixel shuffle. No normalisation, which would discard an image's brightness.

    Attributes:
      downsampling: factor by which the network shrinks its input, a power of two.
      channels: channels of the input.
      width: channels of the hidden layers at full resolution; twice as many per halving.
      dtype: of the convolutions.
      tensors: layout of several tensors in the features, of which `downsampling` is the largest's; () of one.
    """

    downsampling: int
    channels: int
    width: int
    dtype: str = "float32"
    tensors: Layout = ()

    @nn.compact
    def __call__(self, f: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y = on_grid(f, self.tensors, max((factor for _, factor in self.tensors), default=1))
        levels = self.downsampling.bit_length() - 1
        for level in range(levels + 1):
            width = self.width * 2 ** (levels - level)
            for layer in range(2):
                y = nn.gelu(_conv(y, width, f"level{level}_conv{layer}", self.dtype))
            if level < levels:
                y = shuffle(_conv(y, 2 * width, f"level{level}_up", self.dtype), 2)
        return _conv(y, self.channels, "last", self.dtype).astype(jnp.float32)


class Encoder(nn.Module):
    """A generator's features -> its latent: the inverse network of a generator, such as GAN inversion's encoders.

    [B, h, w, c] -> [B, channels]: two convolutions at every resolution, each halving by folding pixels
    into channels, then a dense layer.

    Attributes:
      upsampling: side of the features in pixels, a power of two.
      channels: channels of the latent.
      width: channels of the hidden layers at full resolution; twice as many per halving.
      dtype: of the convolutions.
    """

    upsampling: int
    channels: int
    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, f: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y, levels = f, max(self.upsampling.bit_length() - 3, 0)  # down to four pixels a side
        for level in range(levels + 1):
            for layer in range(2):
                y = _conv(y, self.width * 2**level, f"level{level}_conv{layer}", self.dtype)
                y = nn.gelu(nn.GroupNorm(None, group_size=8, name=f"level{level}_norm{layer}")(y))
            y = unshuffle(y, 2) if level < levels else y
        return nn.Dense(self.channels, name="last")(y.reshape(len(y), -1)).astype(jnp.float32)


def _conv(x, features, name, dtype, size=3):
    return conv(x, Weights((size, size, x.shape[-1], features), name=name)(), dtype)
