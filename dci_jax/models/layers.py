"""Torch-exact layers: convolution with explicit padding, and frozen batch norm whose batch statistics are tapped."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dci_jax.models.convolution import conv_general_dilated

Array = jax.Array

MOMENTS = "batch_moments"  # the collection in which BatchNorm leaves its batch statistics


def conv(features: int, kernel: int, stride: int = 1, name: str | None = None) -> nn.Conv:
    """A k x k convolution without bias, padded by (k - 1) / 2 on every side as torch does.

    "SAME" would pad stride-2 convolutions on one side only.
    """
    pad = (kernel - 1) // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=conv_general_dilated,
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
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,)).value
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,)).value
        axes = tuple(range(x.ndim - 1))
        # Two passes in float32: the one-pass formula loses small variances entirely.
        mean = jnp.mean(x.astype(jnp.float32), axes)
        var = jnp.var(x.astype(jnp.float32), axes)
        self.sow(MOMENTS, "mean", mean, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        self.sow(MOMENTS, "var", var, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        if not self.train:
            mean, var = running_mean, running_var
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(x.dtype)


def tapped(module: nn.Module):
    """The `apply` of a Block: `(variables, x) -> (y, statistics)` for a Flax module."""

    def apply(variables, x):
        y, taps = module.apply(variables, x, mutable=[MOMENTS])
        return y, taps.get(MOMENTS, {})

    return apply
