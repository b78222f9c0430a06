"""ResNets for 32x32 images (He et al., CVPR 2016, section 4.2): a stem, then three stages of n residual blocks.

Depth is 6 n + 2: 8, 20, 32, 44, 56 or 110. Shortcuts are the paper's option A: where a stage halves the
resolution, every second pixel is taken and the missing channels are zeros, so they have no parameters.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.models.layers import IMAGENET_MEAN, IMAGENET_STD, BatchNorm, chain, conv
from dci_jax.network import Network
from dci_jax.typing import Array

DEPTHS = (8, 20, 32, 44, 56, 110)
WIDTHS = (16, 32, 64)


class Stem(nn.Module):
    """Images [B, 32, 32, 3] -> [B, 32, 32, 16]."""

    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.relu(BatchNorm(self.train, name="bn1")(conv(WIDTHS[0], 3, name="conv1")(x)))


class ResidualBlock(nn.Module):
    """[B, H, W, C] -> [B, H / stride, W / stride, features]."""

    features: int
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y = conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(BatchNorm(self.train, name="bn1")(y))
        y = conv(self.features, 3, name="conv2")(y)
        y = BatchNorm(self.train, name="bn2")(y)
        pad = (self.features - x.shape[-1]) // 2
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (pad, pad)))
        return nn.relu(shortcut + y)


class Head(nn.Module):
    """[B, H, W, C] -> logits [B, classes]."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.Dense(self.classes, name="linear")(jnp.mean(x, (1, 2)))


def cifar_resnet(key: Array, depth: int, classes: int = 10, train: bool = False) -> Network:
    """A randomly initialised ResNet for 32x32 images, one block per residual block.

    Args:
      key: for the weights.
      depth: one of 20, 32, 44, 56, 110.
      classes: number of logits.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    modules = [("stem", Stem(train))]
    for stage, features in enumerate(WIDTHS):
        for index in range((depth - 2) // 6):
            stride = 2 if stage > 0 and index == 0 else 1
            block = ResidualBlock(features, stride, train)
            modules.append((f"layer{stage + 1}.{index}", block))
    blocks, head = chain(key, (32, 32, 3), modules, Head(classes))
    return Network(blocks, head, f"cifar_resnet{depth}", (32, 32, 3), IMAGENET_MEAN, IMAGENET_STD)


def torch_prefix(name: str) -> str:
    """Where the published checkpoints keep a block: stem and head have no prefix of their own."""
    return "" if name in ("stem", "head") else f"{name}."
