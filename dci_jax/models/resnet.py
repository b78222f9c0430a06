"""ResNet-18, -34 and -50 for ImageNet (He et al., CVPR 2016), as torchvision has them; names are torchvision's.

In the bottleneck block it is the 3x3 convolution that has the stride (called "v1.5" elsewhere). Each
residual block is a split point; behind layer4.2 of ResNet-50 lie 49 convolutions. `resnet_cifar` is
the form for 32 px that DeepInversion and the data-free distillation of CIFAR-10 have for a teacher.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.models.layers import IMAGENET_MEAN, IMAGENET_STD, BatchNorm, chain, conv, tapped
from dci_jax.network import Network
from dci_jax.typing import Array

WIDTHS = (64, 128, 256, 512)
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)


class Stem(nn.Module):
    """Images [B, H, W, 3] -> [B, H / 4, W / 4, 64]; without `pool` [B, H / 2, W / 2, 64]."""

    train: bool = False
    pool: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = nn.relu(BatchNorm(self.train, name="bn1")(conv(WIDTHS[0], 7, 2, "conv1")(x)))
        return _pooled(x) if self.pool else x


def _pooled(x):
    return max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _pooling(variables, x):
    """The stem's second part, in the form of a Block's `apply`."""
    del variables
    return _pooled(x), {}


class SmallStem(nn.Module):
    """Images [B, H, W, 3] -> [B, H, W, 64]."""

    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.relu(BatchNorm(self.train, name="bn1")(conv(WIDTHS[0], 3, 1, "conv1")(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: [B, H, W, C] -> [B, H / stride, W / stride, width].

    Attributes:
      projection: what checkpoints call the shortcut where the shape changes.
    """

    width: int
    stride: int = 1
    train: bool = False
    projection: str = "downsample"

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y = nn.relu(BatchNorm(self.train, name="bn1")(conv(self.width, 3, self.stride, "conv1")(x)))
        y = BatchNorm(self.train, name="bn2")(conv(self.width, 3, 1, "conv2")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.train, self.projection))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions: [B, H, W, C] -> [B, H / stride, W / stride, 4 width]."""

    width: int
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y = nn.relu(BatchNorm(self.train, name="bn1")(conv(self.width, 1, 1, "conv1")(x)))
        y = nn.relu(BatchNorm(self.train, name="bn2")(conv(self.width, 3, self.stride, "conv2")(y)))
        y = BatchNorm(self.train, name="bn3")(conv(4 * self.width, 1, 1, "conv3")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.train))


def _shortcut(x, y, stride, train, name="downsample"):
    """x itself, or where the shape changes its projection, which checkpoints keep as a Sequential."""
    if x.shape == y.shape:
        return x
    x = conv(y.shape[-1], 1, stride, f"{name}.0")(x)
    return BatchNorm(train, name=f"{name}.1")(x)


class Head(nn.Module):
    """[B, H, W, C] -> logits [B, classes]; `layer` is what checkpoints call the dense layer."""

    classes: int
    layer: str = "fc"

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.Dense(self.classes, name=self.layer)(jnp.mean(x, (1, 2)))


# depth -> (kind of block, blocks in each stage)
DEPTHS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}


def resnet(key: Array, depth: int, classes: int = 1000, train: bool = False) -> Network:
    """A randomly initialised ResNet for 224x224 images, one block per residual block.

    Args:
      key: for the weights.
      depth: 18, 34 or 50.
      classes: number of logits.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    kind, counts = DEPTHS[depth]
    modules = [("stem", Stem(train)), *_stages(kind, counts, train=train)]
    blocks, head = chain(key, (64, 64, 3), modules, Head(classes))
    blocks = (blocks[0].replace(stages=(tapped(Stem(train, pool=False)), _pooling)), *blocks[1:])
    return Network(blocks, head, f"resnet{depth}", (224, 224, 3), IMAGENET_MEAN, IMAGENET_STD, crop=0.875)


def resnet_cifar(key: Array, depth: int, classes: int = 10, train: bool = False) -> Network:
    """The same network for 32x32 images: a 3x3 stem of stride 1, and no pooling behind it.

    Its checkpoints call the projections `shortcut` and the last layer `linear`, and normalise with the mean and
    the standard deviation of CIFAR-10.

    Args:
      key: for the weights.
      depth: 18 or 34.
      classes: number of logits.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    kind, counts = DEPTHS[depth]
    modules = [("stem", SmallStem(train))]
    modules += _stages(kind, counts, train=train, projection="shortcut")
    blocks, head = chain(key, (32, 32, 3), modules, Head(classes, "linear"))
    return Network(blocks, head, f"resnet{depth}_cifar", (32, 32, 3), CIFAR_MEAN, CIFAR_STD)


def _stages(kind, counts, **more):
    for stage, count in enumerate(counts):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            yield f"layer{stage + 1}.{index}", kind(WIDTHS[stage], stride, **more)


def torch_prefix(name: str) -> str:
    """Where torchvision's checkpoints keep a block: stem and head have no prefix of their own."""
    return "" if name in ("stem", "head") else f"{name}."
