"""ResNet-18, -34 and -50 for ImageNet (He et al., CVPR 2016), as torchvision has them; names are torchvision's.

In the bottleneck block it is the 3x3 convolution that has the stride (called "v1.5" elsewhere). Each
residual block is a split point; behind layer4.2 of ResNet-50 lie 49 convolutions.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dci_jax.blocks import Network
from dci_jax.models.layers import IMAGENET_MEAN, IMAGENET_STD, BatchNorm, chain, conv

Array = jax.Array

WIDTHS = (64, 128, 256, 512)


class Stem(nn.Module):
    """Images [B, H, W, 3] -> [B, H / 4, W / 4, 64]."""

    train: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(BatchNorm(self.train, name="bn1")(conv(WIDTHS[0], 7, 2, "conv1")(x)))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: [B, H, W, C] -> [B, H / stride, W / stride, width]."""

    width: int
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(BatchNorm(self.train, name="bn1")(conv(self.width, 3, self.stride, "conv1")(x)))
        y = BatchNorm(self.train, name="bn2")(conv(self.width, 3, 1, "conv2")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions: [B, H, W, C] -> [B, H / stride, W / stride, 4 width]."""

    width: int
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(BatchNorm(self.train, name="bn1")(conv(self.width, 1, 1, "conv1")(x)))
        y = nn.relu(BatchNorm(self.train, name="bn2")(conv(self.width, 3, self.stride, "conv2")(y)))
        y = BatchNorm(self.train, name="bn3")(conv(4 * self.width, 1, 1, "conv3")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.train))


def _shortcut(x, y, stride, train):
    """x itself, or where the shape changes its projection, which torchvision keeps as a Sequential."""
    if x.shape == y.shape:
        return x
    x = conv(y.shape[-1], 1, stride, "downsample.0")(x)
    return BatchNorm(train, name="downsample.1")(x)


class Head(nn.Module):
    """[B, H, W, C] -> logits [B, classes]."""

    classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(self.classes, name="fc")(jnp.mean(x, (1, 2)))


# depth -> (kind of block, blocks in each stage)
DEPTHS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}  # fmt: skip


def resnet(key: Array, depth: int, classes: int = 1000, train: bool = False) -> Network:
    """A randomly initialised ResNet for 224x224 images, one block per residual block.

    Args:
      key: for the weights.
      depth: 18, 34 or 50.
      classes: number of logits.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    kind, counts = DEPTHS[depth]
    modules = [("stem", Stem(train))]
    for stage, count in enumerate(counts):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            modules.append((f"layer{stage + 1}.{index}", kind(WIDTHS[stage], stride, train)))
    blocks, head = chain(key, (64, 64, 3), modules, Head(classes))
    return Network(
        blocks, head, f"resnet{depth}", (224, 224, 3), IMAGENET_MEAN, IMAGENET_STD, crop=0.875
    )


def torch_prefix(name: str) -> str:
    """Where torchvision's checkpoints keep a block: stem and head have no prefix of their own."""
    return "" if name in ("stem", "head") else f"{name}."
