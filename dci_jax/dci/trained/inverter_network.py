"""The inverters R_i: f_i -> f_{i-1}, each unrolled around the block that it inverts.

An inverter starts from the block's output if the shapes agree (a residual block changes its input
little), and corrects its estimate a few times with the frozen block's output for it:

    x_0     = f, or a learned upsampling of f
    x_{r+1} = relu(x_r + N_r(x_r, f, f - F_i(x_r)))

Each `N_r` is a small convolutional network whose last layer starts at zero. This is the cycle
consistency of DCI inside the inverter, as in learned iterative reconstruction (Adler & Öktem, 2017);
reconstruction stays one forward pass. The architecture is ours: the paper's is not published.
"""

from collections.abc import Callable
from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.cpu_kernels.materialize import materialize
from dci_jax.dci.grid import scale, shuffle, unshuffle
from dci_jax.errors import InputError
from dci_jax.models.learned import Weights, biased, conv, unbiased
from dci_jax.network import Network, feature_shapes
from dci_jax.typing import Array


class Inverter(nn.Module):
    """Inverts one block: [B, h, w, c] -> [B, H, W, channels], for images of any size.

    It works at the smaller of the two sizes; the larger is folded into channels (`unshuffle`).

    Attributes:
      downsampling: how much the block shrinks its input: H = h downsampling.
      upsampling: how much it enlarges it: h = H upsampling.
      vector: the block's input is a latent [B, channels], which counts as an image of one pixel.
      channels: of the block's input.
      width: channels of the hidden layers at the input's resolution.
      num_corrections: corrections with the block's own output.
      depth: 3x3 convolutions in each correction.
      nonnegative: the block's input is a ReLU's output, so the estimate is clipped at zero.
      dtype: of the convolutions; the estimate itself is kept in float32.
    """

    downsampling: int
    channels: int
    width: int
    num_corrections: int
    depth: int
    nonnegative: bool
    dtype: str = "float32"
    upsampling: int = 1
    vector: bool = False

    @nn.compact
    def __call__(self, f: Float[Array, "B ..."], block: Callable[[Array], Array]) -> Float[Array, "B ..."]:
        """`block` is the frozen `F_i`, from [B, H, W, C] (or latents [B, C]) to [B, h, w, c]."""

        def answer(x):
            return unshuffle(block(x[:, 0, 0] if self.vector else x), self.upsampling)

        f = unshuffle(f, self.upsampling)
        size = 1 if f.shape[1:3] == (1, 1) else 3
        sent, channels = f.shape[-1], self.channels * self.downsampling**2
        same = self.downsampling == self.upsampling == 1 and sent == self.channels
        x = f if same else shuffle(_conv(f, channels, "start", self.dtype, size=size), self.downsampling)
        x = x.astype(jnp.float32)
        corrections = [self._correction(r, (channels, sent, sent), size) for r in range(self.num_corrections)]
        # A first layer is linear: its response to the features is computed before the first correction, where they may be the estimate.
        parts = [jnp.split(first[0], (channels, channels + sent), 2) for first, *_ in corrections]
        known = [of_f + of_x if same and r == 0 else of_f for r, (of_x, of_f, _) in enumerate(parts)]
        shares = jnp.split(unbiased(f, jnp.concatenate(known, -1), self.dtype), self.num_corrections, -1)
        for r, (((_, bias), *layers), (of_x, _, of_difference)) in enumerate(zip(corrections, parts, strict=True)):
            y, kernel = f - answer(x), of_difference
            if not (same and r == 0):
                y = jnp.concatenate([unshuffle(x, self.downsampling), y], -1)
                kernel = jnp.concatenate([of_x, of_difference], 2)
            y = biased(unbiased(materialize(y), kernel, self.dtype) + shares[r], bias)
            for weights in layers:
                y = conv(nn.gelu(y), weights, self.dtype)
            x = x + shuffle(y, self.downsampling)
            x = materialize(nn.relu(x) if self.nonnegative else x)
        return x[:, 0, 0] if self.vector else x

    def _correction(self, r, inputs, size):
        """The weights of the layers of `N_r`."""
        widths = [sum(inputs), *[self.width] * (self.depth - 1), inputs[0]]
        layers = [Weights((size, size, *pair), name=f"round{r}_conv{i}") for i, pair in enumerate(pairwise(widths))]
        layers[-1] = Weights((size, size, *widths[-2:]), nn.initializers.zeros, name=f"round{r}_last")
        return [layer() for layer in layers]


def inverters(
    network: Network, stop: int, width: float, cap: int, num_corrections: int, depth: int
) -> tuple[Inverter, ...]:
    """One untrained inverter for each of the first `stop` blocks.

    Args:
      network: gives the shapes and the dtype.
      stop: how many blocks.
      width: hidden channels, as a multiple of the channels of the wider side of the block.
      cap: maximum number of hidden channels.
      num_corrections, depth: see `Inverter`.

    Raises:
      InputError: a block's features are not images, not scaled by a whole factor, or several tensors.
    """
    shapes = feature_shapes(network)
    for block in network.blocks[:stop]:
        if block.tensors:
            raise InputError(
                f"{network.name}: {block.name} sends {len(block.tensors)} tensors, which trained inverters do not "
                "support; use the attack dci."
            )
    scales = [scale(network, i, i + 1, shapes) for i in range(stop)]
    return tuple(
        Inverter(
            scales[i][0],
            shapes[i][-1],
            _eights(min(width * max(shapes[i][-1], shapes[i + 1][-1]), cap)),
            num_corrections,
            depth,
            network.blocks[i].nonnegative,
            network.dtype,
            scales[i][1],
            len(shapes[i]) == 1,
        )
        for i in range(stop)
    )


def _eights(width):
    return max(8, 8 * round(width / 8))


def _conv(x, features, name, dtype, size=3):
    return conv(x, Weights((size, size, x.shape[-1], features), name=name)(), dtype)
