"""The inverters R_i: f_i -> f_{i-1}, each unrolled around the block that it undoes; and a plain decoder.

An inverter starts from the block's output where the shapes agree (a residual block changes its input
little), and corrects its estimate a few times by what the frozen block itself makes of it:

    x_0     = f, or a learned upsampling of f
    x_{r+1} = relu(x_r + N_r(x_r, f, f - F_i(x_r)))

Each `N_r` is a small convolutional network whose last layer starts at zero. This is the cycle
consistency of DCI inside the inverter, as in learned iterative reconstruction (Adler & Öktem, 2017);
reading an input back stays one forward pass. The architecture is ours: the paper's is not published.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from dci_jax.blocks import Network, feature_shapes
from dci_jax.models.convolution import conv_general_dilated

Array = jax.Array


class Inverter(nn.Module):
    """Undoes one block: [B, h, w, c] -> [B, H, W, C], where H / h = W / w is a whole number.

    Attributes:
      shape: (H, W, C) of one output.
      width: channels of the hidden layers at the input's resolution.
      rounds: corrections by the block's own answer.
      depth: 3x3 convolutions in each correction.
      nonnegative: the output is what a ReLU gave, and is cut at zero.
    """

    shape: tuple[int, int, int]
    width: int
    rounds: int
    depth: int
    nonnegative: bool

    @nn.compact
    def __call__(self, f: Array, block: Callable[[Array], Array]) -> Array:
        """`block` is the frozen `F_i`, from [B, H, W, C] to [B, h, w, c]."""
        factor = self.shape[0] // f.shape[1]
        channels = self.shape[2] * factor**2
        x = f if f.shape[1:] == self.shape else shuffle(_conv(channels, "start")(f), factor)
        for r in range(self.rounds):
            y = jnp.concatenate([unshuffle(x, factor), f, f - block(x)], -1)
            for layer in range(self.depth - 1):
                y = nn.gelu(_conv(self.width, f"round{r}_conv{layer}")(y))
            y = _conv(channels, f"round{r}_last", nn.initializers.zeros)(y)
            x = x + shuffle(y, factor)
            x = nn.relu(x) if self.nonnegative else x
        return x


class Decoder(nn.Module):
    """Features -> input without looking at the network: He et al.'s inverse network (ACSAC 2019).

    [B, h, w, c] -> [B, H, W, C]: two convolutions at every resolution, each doubling by pixel shuffle.

    Attributes:
      shape: (H, W, C) of one output.
      width: channels of the hidden layers at full resolution; twice as many per halving.
    """

    shape: tuple[int, int, int]
    width: int

    @nn.compact
    def __call__(self, f: Array) -> Array:
        y, level = f, 0
        while y.shape[1] <= self.shape[0]:
            width = self.width * self.shape[0] // y.shape[1]
            for layer in range(2):
                y = _conv(width, f"level{level}_conv{layer}")(y)
                y = nn.gelu(nn.GroupNorm(None, group_size=8, name=f"level{level}_norm{layer}")(y))
            if y.shape[1] == self.shape[0]:
                break
            y = shuffle(_conv(2 * width, f"level{level}_up")(y), 2)
            level += 1
        return _conv(self.shape[2], "last")(y)


def inverters(network: Network, width: float, rounds: int, depth: int) -> tuple[Inverter, ...]:
    """One untrained inverter for each block.

    Args:
      network: gives the shapes.
      width: hidden channels, as a multiple of the channels of the wider side of the block.
      rounds, depth: see `Inverter`.
    """
    shapes = feature_shapes(network)
    return tuple(
        Inverter(before, _eights(width * max(before[-1], after[-1])), rounds, depth, nonnegative)
        for before, after, nonnegative in zip(
            shapes, shapes[1:], (block.nonnegative for block in network.blocks), strict=False
        )
    )


def shuffle(x: Array, factor: int) -> Array:
    """[B, h, w, C r^2] -> [B, h r, w r, C]: pixel shuffle (Shi et al., CVPR 2016)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, factor, factor, channels // factor**2)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * factor, width * factor, channels // factor**2)


def unshuffle(x: Array, factor: int) -> Array:
    """[B, H, W, C] -> [B, H / r, W / r, C r^2]: the inverse of `shuffle`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // factor, width // factor, channels * factor**2)


def _eights(width):
    return max(8, 8 * round(width / 8))


def _conv(features, name, kernel_init=None):
    return nn.Conv(
        features,
        (3, 3),
        padding=((1, 1), (1, 1)),
        kernel_init=kernel_init or nn.initializers.lecun_normal(),
        conv_general_dilated=conv_general_dilated,
        name=name,
    )
