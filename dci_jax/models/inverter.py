"""The inverters R_i: f_i -> f_{i-1}, each unrolled around the block that it undoes; a plain decoder and encoder.

An inverter starts from the block's output where the shapes agree (a residual block changes its input
little), and corrects its estimate a few times by what the frozen block itself makes of it:

    x_0     = f, or a learned upsampling of f
    x_{r+1} = relu(x_r + N_r(x_r, f, f - F_i(x_r)))

Each `N_r` is a small convolutional network whose last layer starts at zero. This is the cycle
consistency of DCI inside the inverter, as in learned iterative reconstruction (Adler & Öktem, 2017);
reading an input back stays one forward pass. The architecture is ours: the paper's is not published.
"""

from collections.abc import Callable
from itertools import pairwise

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from dci_jax.blocks import Network, feature_shapes, split_names
from dci_jax.errors import InputError
from dci_jax.models.learned import Weights, biased, conv, unbiased
from dci_jax.runtime.once import once

Array = jax.Array | np.ndarray


class Inverter(nn.Module):
    """Undoes one block: [B, h, w, c] -> [B, H, W, channels], for images of any size.

    It works at the smaller of the two sizes; the larger is folded into channels (`unshuffle`).

    Attributes:
      factor: how much the block shrinks its input: H = h factor.
      growth: how much it enlarges it: h = H growth.
      vector: the block's input is a code [B, channels], which counts as an image of one pixel.
      channels: of the block's input.
      width: channels of the hidden layers at the input's resolution.
      rounds: corrections by the block's own answer.
      depth: 3x3 convolutions in each correction.
      nonnegative: the output is what a ReLU gave, and is cut at zero.
      dtype: of the convolutions; the estimate itself is kept in float32.
    """

    factor: int
    channels: int
    width: int
    rounds: int
    depth: int
    nonnegative: bool
    dtype: str = "float32"
    growth: int = 1
    vector: bool = False

    @nn.compact
    def __call__(self, f: Array, block: Callable[[Array], Array]) -> Array:
        """`block` is the frozen `F_i`, from [B, H, W, C] (or codes [B, C]) to [B, h, w, c]."""

        def answer(x):
            return unshuffle(block(x[:, 0, 0] if self.vector else x), self.growth)

        f = unshuffle(f, self.growth)
        size = 1 if f.shape[1:3] == (1, 1) else 3
        sent, channels = f.shape[-1], self.channels * self.factor**2
        same = self.factor == self.growth == 1 and sent == self.channels
        x = f if same else shuffle(_conv(f, channels, "start", self.dtype, size=size), self.factor)
        x = x.astype(jnp.float32)
        corrections = [self._correction(r, (channels, sent, sent), size) for r in range(self.rounds)]
        # A first layer is linear: what it makes of the features is known before the first round, where they are the estimate, too.
        parts = [jnp.split(first[0], (channels, channels + sent), 2) for first, *_ in corrections]
        known = [of_f + of_x if same and r == 0 else of_f for r, (of_x, of_f, _) in enumerate(parts)]
        shares = jnp.split(unbiased(f, jnp.concatenate(known, -1), self.dtype), self.rounds, -1)
        for r, (((_, bias), *layers), (of_x, _, of_difference)) in enumerate(zip(corrections, parts, strict=True)):
            y, kernel = f - answer(x), of_difference
            if not (same and r == 0):
                y = jnp.concatenate([unshuffle(x, self.factor), y], -1)
                kernel = jnp.concatenate([of_x, of_difference], 2)
            y = biased(unbiased(once(y), kernel, self.dtype) + shares[r], bias)
            for weights in layers:
                y = conv(nn.gelu(y), weights, self.dtype)
            x = x + shuffle(y, self.factor)
            x = once(nn.relu(x) if self.nonnegative else x)
        return x[:, 0, 0] if self.vector else x

    def _correction(self, r, inputs, size):
        """The weights of the layers of `N_r`."""
        widths = [sum(inputs), *[self.width] * (self.depth - 1), inputs[0]]
        layers = [Weights((size, size, *pair), name=f"round{r}_conv{i}") for i, pair in enumerate(pairwise(widths))]
        layers[-1] = Weights((size, size, *widths[-2:]), nn.initializers.zeros, name=f"round{r}_last")
        return [layer() for layer in layers]


class Decoder(nn.Module):
    """Features -> input without looking at the network: He et al.'s inverse network (ACSAC 2019).

    [B, h, w, c] -> [B, h factor, w factor, channels]: two convolutions at every resolution, each
    doubling by pixel shuffle. Nothing is normalised: a norm loses how bright an image is.

    Attributes:
      factor: how much the network shrinks its input, a power of two.
      channels: of the input.
      width: channels of the hidden layers at full resolution; twice as many per halving.
      dtype: of the convolutions.
    """

    factor: int
    channels: int
    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, f: Array) -> Array:
        y, levels = f, self.factor.bit_length() - 1
        for level in range(levels + 1):
            width = self.width * 2 ** (levels - level)
            for layer in range(2):
                y = nn.gelu(_conv(y, width, f"level{level}_conv{layer}", self.dtype))
            if level < levels:
                y = shuffle(_conv(y, 2 * width, f"level{level}_up", self.dtype), 2)
        return _conv(y, self.channels, "last", self.dtype).astype(jnp.float32)


class Encoder(nn.Module):
    """A generator's features -> its code: the inverse network of a generator, such as GAN inversion's encoders.

    [B, h, w, c] -> [B, channels]: two convolutions at every resolution, each halving by folding pixels
    into channels, then a dense layer.

    Attributes:
      growth: how much larger than one pixel the features are, a power of two.
      channels: of the code.
      width: channels of the hidden layers at full resolution; twice as many per halving.
      dtype: of the convolutions.
    """

    growth: int
    channels: int
    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, f: Array) -> Array:
        y, levels = f, max(self.growth.bit_length() - 3, 0)  # down to four pixels a side
        for level in range(levels + 1):
            for layer in range(2):
                y = _conv(y, self.width * 2**level, f"level{level}_conv{layer}", self.dtype)
                y = nn.gelu(nn.GroupNorm(None, group_size=8, name=f"level{level}_norm{layer}")(y))
            y = unshuffle(y, 2) if level < levels else y
        return nn.Dense(self.channels, name="last")(y.reshape(len(y), -1)).astype(jnp.float32)


def inverters(network: Network, stop: int, width: float, cap: int, rounds: int, depth: int) -> tuple[Inverter, ...]:
    """One untrained inverter for each of the first `stop` blocks.

    Args:
      network: gives the shapes and the dtype.
      stop: how many blocks.
      width: hidden channels, as a multiple of the channels of the wider side of the block.
      cap: but so many at most.
      rounds, depth: see `Inverter`.

    Raises:
      InputError: a block's features are no images, or not smaller by a whole factor.
    """
    shapes = feature_shapes(network)
    scales = [scale(network, i, i + 1) for i in range(stop)]
    return tuple(
        Inverter(
            scales[i][0],
            shapes[i][-1],
            _eights(min(width * max(shapes[i][-1], shapes[i + 1][-1]), cap)),
            rounds,
            depth,
            network.blocks[i].nonnegative,
            network.dtype,
            scales[i][1],
            len(shapes[i]) == 1,
        )
        for i in range(stop)
    )


def scale(network: Network, start: int, stop: int) -> tuple[int, int]:
    """How much smaller, and how much larger, the features at split `stop` are than those at `start`.

    In height and width; at least one of both is 1. A code counts as an image of one pixel.

    Raises:
      InputError: they are no images [H, W, C], or differ by no whole factor.
    """
    before, after = (feature_shapes(network)[i] for i in (start, stop))
    whole = len(after) == 3 and (len(before) == 3 or start == 0)
    old, new = ((1, 1, *shape)[-3:-1] for shape in (before, after))
    for large, small, enlarged in ((old, new, False), (new, old, True)):
        ratios = {a // b if a % b == 0 else 0 for a, b in zip(large, small, strict=True)}
        if whole and len(ratios) == 1 and 0 not in ratios:
            return (1, ratios.pop()) if enlarged else (ratios.pop(), 1)
    raise InputError(
        f"{network.name}: {split_names(network)[stop - 1]} makes features {after} out of {before}, "
        "and an inverter needs [H, W, C] on both sides, smaller or larger by one whole factor; choose splits "
        "before it, or an input (or inputs.side) whose size divides."
    )


def shuffle(x: Float[Array, "B h w c"], factor: int) -> Float[Array, "B H W C"]:
    """[B, h, w, C r^2] -> [B, h r, w r, C]: pixel shuffle (Shi et al., CVPR 2016)."""
    return x if factor == 1 else dm_pix.depth_to_space(x, factor)


def unshuffle(x: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w c"]:
    """[B, H, W, C] -> [B, H / r, W / r, C r^2]: the inverse of `shuffle`."""
    return x if factor == 1 else dm_pix.space_to_depth(x, factor)


def _eights(width):
    return max(8, 8 * round(width / 8))


def _conv(x, features, name, dtype, size=3):
    return conv(x, Weights((size, size, x.shape[-1], features), name=name)(), dtype)
