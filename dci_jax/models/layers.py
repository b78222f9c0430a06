"""Torch-exact layers: convolution with explicit padding, and frozen batch norm whose batch statistics are tapped."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.cpu_kernels.convolution import convolve
from dci_jax.cpu_kernels.moments import moments
from dci_jax.network import Block
from dci_jax.typing import Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MOMENTS = "batch_moments"  # the collection in which BatchNorm leaves its batch statistics


def conv(features: int, kernel: int, stride: int = 1, name: str | None = None, use_bias: bool = False) -> nn.Conv:
    """A k x k convolution, padded by (k - 1) / 2 on every side as torch does.

    "SAME" would pad stride-2 convolutions on one side only.
    """
    pad = (kernel - 1) // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=convolve,
        name=name,
    )


class BatchNorm(nn.Module):
    """BatchNorm over all axes but the last (Ioffe & Szegedy, 2015), with torch's epsilon.

    Normalises by the running statistics, and leaves the mean and the biased variance [C] of its
    input in the collection `batch_moments`, whose tree equals that of `batch_stats`.

    Attributes:
      train: normalise by the batch's own statistics instead; the caller updates the running ones.
      epsilon: added to the variance.
    """

    train: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,)).value
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,)).value
        mean, var = moments(x.astype(jnp.float32))
        self.sow(MOMENTS, "mean", mean, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        self.sow(MOMENTS, "var", var, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        if not self.train:
            mean, var = running_mean, running_var
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(x.dtype)


@functools.cache  # equal modules have one function, so that their blocks share their programs (`network.single_block`)
def tapped(module: nn.Module):
    """The `apply` of a Block: `(variables, x) -> (y, statistics)` for a Flax module."""

    def apply(variables, x):
        y, taps = module.apply(variables, x, mutable=[MOMENTS])
        return y, taps.get(MOMENTS, {})

    return apply


def flax_piece(name: str, module: nn.Module, variables: dict) -> tuple[str, Callable, dict]:
    """Any Flax module as a piece of `pieces.sequential`; its BatchNorm layers are tapped.

    Args:
      name: split point.
      module: a linen module in evaluation mode, such as `Stage(train=False)`.
      variables: its "params" and, where it has `nn.BatchNorm`, "batch_stats".
    """

    def apply(variables, x):
        statistics = {}

        def listen(next_method, args, kwargs, context):
            if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
                mean, var = moments(args[0].astype(jnp.float32))
                place = statistics
                for part in context.module.path:
                    place = place.setdefault(part, {})
                place.update(mean=mean, var=var)
            return next_method(*args, **kwargs)

        with nn.intercept_methods(listen):
            return module.apply(variables, x), statistics

    return name, apply, variables


def chain(
    key: Array,
    shape: tuple[int, ...],
    modules: list[tuple[str, nn.Module]],
    head: nn.Module | None,
) -> tuple[tuple[Block, ...], Block | None]:
    """Blocks with random weights out of named Flax modules, each of which takes what the one before gives.

    Args:
      key: for the weights.
      shape: of one input that the modules can take, to find the other shapes with.
      modules: (name, module), each ending in a ReLU. Behind one that does not, the caller corrects
        the block's `nonnegative`.
      head: features -> logits, or None.
    """
    x, blocks = jnp.zeros((1, *shape)), []
    for name, module in [*modules, *([("head", head)] if head else [])]:
        key, block_key = jax.random.split(key)
        x, variables = module.init_with_output(block_key, x)
        variables = {kind: tree for kind, tree in variables.items() if kind != MOMENTS}
        blocks.append(Block(variables, name, tapped(module), nonnegative=bool(blocks)))
    return (tuple(blocks[:-1]), blocks[-1]) if head else (tuple(blocks), None)
