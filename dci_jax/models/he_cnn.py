"""The six-convolution network for 32x32 images of He, Zhang & Lee (ACSAC 2019, table 1), without BatchNorm.

64-64-pool-128-128-pool-128-128-pool, then 512 sigmoid units and the classes. The split points are
the paper's: `conv11` lies before its ReLU, all others behind theirs.
"""

from dataclasses import replace

from flax import linen as nn
from jaxtyping import Float

from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.models.layers import IMAGENET_MEAN, IMAGENET_STD, chain, conv
from dci_jax.network import Network
from dci_jax.typing import Array


class First(nn.Module):
    """Images [B, 32, 32, 3] -> [B, 32, 32, 64], of either sign."""

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return conv(64, 3, use_bias=True, name="conv11")(x)


class Convolution(nn.Module):
    """[B, H, W, C] -> [B, H / 2, W / 2, features] with `pool`, else of the same size.

    Attributes:
      label: what the checkpoint calls the convolution.
      features: channels of the output.
      pool: take the largest of 2x2 pixels first.
      rectify: apply a ReLU first, as the block behind `conv11` does.
    """

    label: str
    features: int
    pool: bool = False
    rectify: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = nn.relu(x) if self.rectify else x
        x = _halved(x) if self.pool else x
        return nn.relu(conv(self.features, 3, use_bias=True, name=self.label)(x))


class Head(nn.Module):
    """[B, 8, 8, 128] -> logits [B, classes]."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = _halved(x)
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # torch flattens channels first
        return nn.Dense(self.classes, name="fc2")(nn.sigmoid(nn.Dense(512, name="fc1")(x)))


def _halved(x):
    return max_pool(x, (1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4)


def he_cnn(key: Array, classes: int = 10, train: bool = False) -> Network:
    """The network with random weights; without BatchNorm it is the same in training."""
    del train
    modules = [
        ("conv11", First()),
        ("relu12", Convolution("conv12", 64, rectify=True)),
        ("relu21", Convolution("conv21", 128, pool=True)),
        ("relu22", Convolution("conv22", 128)),
        ("relu31", Convolution("conv31", 128, pool=True)),
        ("relu32", Convolution("conv32", 128)),
    ]
    blocks, head = chain(key, (32, 32, 3), modules, Head(classes))
    blocks = tuple(replace(b, nonnegative=b.name not in ("conv11", "relu12")) for b in blocks)
    return Network(blocks, head, "he_cnn", (32, 32, 3), IMAGENET_MEAN, IMAGENET_STD)


def torch_prefix(name: str) -> str:
    """The modules bear the checkpoint's names: `conv11.weight`, ..., `fc1.weight`, `fc2.bias`."""
    del name
    return ""
