"""An inverter made of linear maps, each the solution of a least-squares problem: what `dci` chains.

    x_0     = A_0 * f                                            (+ f where the block keeps its shape)
    x_{r+1} = x_r + A_r * [x_r, f, f - F(x_r), J^T P (f - F(x_r)), J'^T P' (f_k - F'(x_r))]  (clipped to the input's range)

F is the frozen block, J its Jacobian at x_r (one `jax.vjp`): J^T routes an error back through strides, pooling
and ReLU to what caused it, and A_r learns how far to follow. P is the inverse covariance of the error's channels
(`dci.precision`). Before split k, f itself is an estimate: F' runs from x_r through all blocks to k, so that the features
that were sent correct every block. `*` is a k x k convolution on the smaller of the two grids, the larger one folded into
channels. A channel of ones tells a map where the border is.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.dci.grid import Shapes, common_factor, scale, shuffle, unshuffle
from dci_jax.dci.normal_equations import Sums, moments
from dci_jax.defenses.channel import with_observation
from dci_jax.inputs.latents import LIMITS, latent_prior
from dci_jax.network import Network, feature_shapes, pieces, run
from dci_jax.runtime.compile_ahead import program
from dci_jax.tensors import Layout, grid_shape, on_grid
from dci_jax.typing import Array

Arrays = Sequence[Array]
Precisions = tuple[Float[Array, "f f"] | None, Float[Array, "k_f k_f"] | None]  # of f and of the sent features


@dataclass(frozen=True)
class InverterSpec:
    """How the input and the output of one block lie on one grid; hashable, a static argument.

    Attributes:
      index: of the block, from 0.
      stop: the split whose features the chain is given; index + 1 if several splits share a chain.
      downsampling, upsampling: factor by which its output is smaller, or larger, than its input.
      vector: its input is a latent [B, C], which counts as an image of one pixel.
      same: input and output have the same shape, so that the output is a first estimate of the input.
      low, high: range of the input.
      channels: channels of a correction's regressors, including the ones.
      grid: (height, width) of the smaller side, for one input of the network's own size.
      target: channels of the input, folded.
      sent: channels of a first map's regressors, the folded output and the ones.
      tensors, factor: layout of several tensors in the output (`Block.tensors`; () for one), and the grid that they are brought
        to (`grid.common_factor`).
    """

    index: int
    stop: int
    downsampling: int
    upsampling: int
    vector: bool
    same: bool
    low: float
    high: float
    channels: int
    grid: tuple[int, int]
    target: int
    sent: int
    tensors: Layout = ()
    factor: int = 1

    @property
    def layout(self) -> "InverterSpec":
        """What compiled programs depend on, so that identical blocks share them."""
        return replace(self, index=0, stop=0, channels=0, grid=(0, 0), target=0, sent=0)


def inverter_spec(network: Network, index: int, stop: int | None = None, shapes: Shapes | None = None) -> InverterSpec:
    """The `InverterSpec` of block `index` in a chain from split `stop` (by default index + 1); `shapes` as in `scale`.

    Raises:
      InputError: its features are not images, or their size does not differ from its input's by one whole factor.
    """
    shapes = shapes or feature_shapes(network)
    downsampling, upsampling = scale(network, index, index + 1, shapes)
    (before, output), tensors = shapes[index : index + 2], network.blocks[index].tensors
    after = grid_shape(output, tensors, factor := common_factor(network, index, index + 1, shapes))
    low, high = LIMITS[latent_prior(network)] if index == 0 else (-jnp.inf, jnp.inf)
    low = max(float(low), 0.0) if network.blocks[index].nonnegative else float(low)
    target, sent, stop = before[-1] * downsampling**2, after[-1] * upsampling**2, stop or index + 1
    channels = (3 if stop > index + 1 else 2) * target + 2 * sent + 1
    return InverterSpec(
        index,
        stop,
        downsampling,
        upsampling,
        len(before) == 1,
        before == output and tensors == (network.blocks[index - 1].tensors if index else ()),
        low,
        float(high),
        channels,
        (after[0] // upsampling, after[1] // upsampling),
        *(target, sent + 1, tensors, factor),
    )


def kernel_sizes(g: InverterSpec, kernel_size: int, max_unknowns: tuple[int, int]) -> tuple[int, int]:
    """k of an inverter's first map and of its corrections: the largest odd one up to `kernel_size` whose unknowns fit.

    The first map extracts most of what neighbours tell about a pixel: after a wide block, a larger kernel pays off.
    """
    if g.grid == (1, 1):
        return 1, 1
    return tuple(
        max(k for k in range(1, kernel_size + 1, 2) if k == 1 or k**2 * channels <= most)
        for channels, most in zip((g.sent, g.channels), max_unknowns, strict=True)
    )


def largest(g: InverterSpec, ks: tuple[int, int]) -> int:
    """Unknowns of an inverter's largest solve, with neighbourhoods from `kernel_sizes`."""
    return max(ks[0] ** 2 * g.sent, ks[1] ** 2 * g.channels)


def enough(
    found: Sequence[InverterSpec],
    ks: Sequence[tuple[int, int]],
    num_images: int,
    least: int,
    samples_per_unknown: int,
) -> list[int]:
    """Number of inputs that each inverter of a chain is solved on, shallowest first.

    Enough for `samples_per_unknown` pixels per unknown, but at least `least` and at most `num_images`.
    """
    counts = [
        math.ceil(samples_per_unknown * largest(g, k) / math.prod(g.grid)) for g, k in zip(found, ks, strict=True)
    ]
    return [min(max(least, count), max(num_images, least)) for count in counts]


def first(g: InverterSpec, kernel: Float[Array, "k k sent target"], f: Float[Array, "B *f"]) -> Float[Array, "B *x"]:
    """x_0 [B, H, W, C] (or latents [B, C]) of features f [B, h, w, c]; kernel [k, k, c upsampling^2 + 1, C downsampling^2]."""
    return _first(g.layout, kernel, f)


def corrected(
    g: InverterSpec,
    kernel: Float[Array, "k k channels target"],
    network: Network,
    seen: Float[Array, "B *k_f"],
    f: Float[Array, "B *f"],
    x: Float[Array, "B *x"],
    precisions: Precisions = (None, None),
) -> Float[Array, "B *x"]:
    """x_{r+1} of x_r = `x`."""
    return moved(g, kernel, regressors(g, network, seen, f, x, precisions), x)


def moved(
    g: InverterSpec,
    kernel: Float[Array, "k k channels target"],
    u: Float[Array, "B h w channels"],
    x: Float[Array, "B *x"],
) -> Float[Array, "B *x"]:
    """x_{r+1} of x_r = `x` and its `regressors`."""
    return _moved(g.layout, kernel, u, x)


def regressors(
    g: InverterSpec,
    network: Network,
    seen: Float[Array, "B *k_f"],
    f: Float[Array, "B *f"],
    x: Float[Array, "B *x"],
    precisions: Precisions = (None, None),
) -> Float[Array, "B h w channels"]:
    """[x, f - F(x), J^T P (f - F(x)), J'^T P' (seen - F'(x)), f, 1] on the smaller grid: [B, H', W', g.channels].

    F' is the network from this block to split g.stop, whose features `seen` are the true ones; omitted if that is
    this block alone.
    """
    found = errors(g, network, seen, f, x)
    gradients = [_back(pulls, _weighted(error, p)) for (pulls, error), p in zip(found, precisions, strict=False)]
    return _stacked(g.layout, x, found[0][1], gradients, f)


def errors(
    g: InverterSpec,
    network: Network,
    seen: Float[Array, "B *k_f"],
    f: Float[Array, "B *f"],
    x: Float[Array, "B *x"],
) -> list[tuple[list, Array]]:
    """(J^T, a list of functions; f - F(x)) and, if F' is not F, (J'^T; seen - F'(x))."""
    network, answer, pulls, found = with_observation(network, seen), x, [], []
    for index in range(g.index, g.stop):
        for piece in pieces(network, index):
            answer, pull = forward(piece, answer)
            pulls.append(pull)
        if index == g.index:
            found.append((list(pulls), _minus(f, answer)))
    if g.stop > g.index + 1:
        found.append((pulls, _minus(seen, answer)))
    return found


# Compiled block by block, so that a chain's inverters share programs, as do those of every defense after it: with one
# program per inverter, an audit spent half of its time compiling.
@program
def forward(block, x):
    """(F(x), J^T as a function) of a network of one block."""
    return jax.vjp(functools.partial(run, block), x)


@program
def back(pull, error):
    """J^T of an error in the block's output."""
    return pull(error)[0]


_minus = program(jnp.subtract)


def _weighted(error, precision):
    return error if precision is None else _times(error, precision)


@program
def _times(error, precision):
    return (error @ precision).astype(error.dtype)


def _back(pulls, error):
    return functools.reduce(lambda error, pull: back(pull, error), pulls[::-1], error)


@program(static_argnums=0)
def _stacked(g, x, residual, gradients, f):
    x, *gradients = (unshuffle(_image(g, a), g.downsampling) for a in (x, *gradients))
    residual = unshuffle(on_grid(residual, g.tensors, g.factor), g.upsampling)
    return jnp.concatenate([x, residual, *gradients, _sent(g, f)], -1)


def first_moments(size: int, g: InverterSpec, f: Arrays, true: Arrays, count: int) -> Sums:
    """`moments` of the first map, for batches of features (or estimates of them) and true inputs: the first `count` of them."""
    return _first_moments(size, g.layout, tuple(f), tuple(true), np.int32(count))


def correction_moments(size: int, g: InverterSpec, u: Arrays, x: Arrays, true: Arrays, count: int) -> Sums:
    """`moments` of a correction, for batches of estimates `x` and their `regressors` `u`: the first `count` of them."""
    return _correction_moments(size, g.layout, tuple(u), tuple(x), tuple(true), np.int32(count))


@program(static_argnums=0)
def _first(g, kernel, f):
    x = shuffle(_convolve(_sent(g, f), kernel), g.downsampling)
    return _out(g, x + f if g.same else x)


@program(static_argnums=0)
def _moved(g, kernel, u, x):
    return _out(g, _image(g, x) + shuffle(_convolve(u, kernel), g.downsampling))


@program(static_argnums=(0, 1))
def _first_moments(size, g, f, true, count):
    targets = [_image(g, b) - a if g.same else _image(g, b) for a, b in zip(f, true, strict=True)]
    return _moments(size, g, [_sent(g, a) for a in f], targets, count)


@program(static_argnums=(0, 1))
def _correction_moments(size, g, u, x, true, count):
    return _moments(size, g, u, [_image(g, b) - _image(g, a) for a, b in zip(x, true, strict=True)], count)


def _moments(size, g, u, targets, count):
    """Batches from number `count` on become zeros, which add nothing to a sum: one program serves any number."""
    u, targets = ([jnp.where(number < count, b, 0) for number, b in enumerate(batches)] for batches in (u, targets))
    return moments(size, tuple(u), tuple(unshuffle(t, g.downsampling) for t in targets))


def _sent(g, f):
    f = unshuffle(on_grid(f, g.tensors, g.factor), g.upsampling)
    return jnp.concatenate([f, jnp.ones_like(f[..., :1])], -1)


def _image(g, x):
    return x[:, None, None] if g.vector else x


def _out(g, x):
    x = jnp.clip(x, g.low, g.high)
    return x[:, 0, 0] if g.vector else x


def _convolve(u, kernel):
    return jax.lax.conv_general_dilated(u, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
