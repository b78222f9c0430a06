"""RepVGG (Ding et al., CVPR 2021): plain 3x3 networks, trained with three branches per block and deployed with one.

Training form: `relu(bn(conv3x3(x)) + bn(conv1x1(x)) + bn(x))`, the last branch only where the shape is
kept. Deploy form: one 3x3 convolution with the same function (`reparameterize`), and no BatchNorm, so
only the training form can be synthesised from. Names of modules and split points are timm's.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from dci_jax.models.layers import IMAGENET_MEAN, IMAGENET_STD, BatchNorm, chain, conv, tapped
from dci_jax.network import Block, Network
from dci_jax.typing import Array

EPSILON = 1e-5
PATTERN_A0 = (2, 4, 14, 1)  # blocks per stage, after the stem


class RepVGGBlock(nn.Module):
    """Training form: [B, H, W, C] -> [B, H / stride, W / stride, features]."""

    features: int
    stride: int = 1
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        def norm(name):
            return BatchNorm(self.train, EPSILON, name=name)

        y = norm("conv_kxk.bn")(conv(self.features, 3, self.stride, "conv_kxk.conv")(x))
        y += norm("conv_1x1.bn")(conv(self.features, 1, self.stride, "conv_1x1.conv")(x))
        if self.stride == 1 and self.features == x.shape[-1]:
            y += norm("identity")(x)
        return nn.relu(y)


class DeployBlock(nn.Module):
    """Deploy form of the same block: one convolution with a bias."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.relu(conv(self.features, 3, self.stride, "reparam_conv", use_bias=True)(x))


class Head(nn.Module):
    """[B, H, W, C] -> logits [B, classes]."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return nn.Dense(self.classes, name="fc")(jnp.mean(x, (1, 2)))


def repvgg(
    key: Array,
    name: str = "repvgg_a0",
    widths: tuple[int, ...] = (48, 48, 96, 192, 1280),
    strides: tuple[int, ...] = (2, 2, 2, 2, 2),
    size: int = 224,
    classes: int = 1000,
    *,
    crop: float = 0.875,
    train: bool = False,
) -> Network:
    """A randomly initialised RepVGG with A0's number of blocks, in training form; one block per RepVGG block.

    Args:
      key: for the weights.
      name: for reports.
      widths, strides: of the stem and the four stages; a stage's stride is its first block's.
      size: side of the input in pixels.
      classes: number of logits.
      crop: see `Network`.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    modules = [("stem", RepVGGBlock(widths[0], strides[0], train))]
    for stage, count in enumerate(PATTERN_A0):
        for index in range(count):
            stride = strides[stage + 1] if index == 0 else 1
            block = RepVGGBlock(widths[stage + 1], stride, train)
            modules.append((f"stages.{stage}.{index}", block))
    blocks, head = chain(key, (size, size, 3), modules, Head(classes))
    return Network(blocks, head, name, (size, size, 3), IMAGENET_MEAN, IMAGENET_STD, crop)


def repvgg_cifar(key: Array, train: bool = False) -> Network:
    """A0's block pattern for 32x32 images and 10 classes: narrower, and halved three times only."""
    return repvgg(key, "repvgg_cifar", (16, 16, 32, 64, 256), (1, 1, 2, 2, 2), 32, 10, crop=1.0, train=train)


def reparameterize(network: Network) -> Network:
    """The deploy form of a RepVGG: each block's three branches folded into one 3x3 convolution.

    A branch `bn(conv(x))` is `conv'(x) + b` with kernel `K * t` and bias `beta - mean * t`, where
    `t = gamma / sqrt(var + eps)`; the identity branch is a 1x1 convolution with the unit matrix.
    """
    return network.replace(blocks=tuple(_fold(block) for block in network.blocks))


def _fold(block: Block) -> Block:
    params, running = block.params["params"], block.params["batch_stats"]
    channels = params["conv_kxk.conv"]["kernel"].shape[2]
    point = {"conv_1x1.bn": params["conv_1x1.conv"]["kernel"], "identity": jnp.eye(channels)}
    branches = {"conv_kxk.bn": params["conv_kxk.conv"]["kernel"]} | {
        branch: jnp.pad(kernel.reshape(1, 1, channels, -1), ((1, 1), (1, 1), (0, 0), (0, 0)))
        for branch, kernel in point.items()
        if branch in params
    }
    kernel = bias = 0.0
    for branch, branch_kernel in branches.items():
        mean, var = running[branch]["mean"], running[branch]["var"]
        factor = params[branch]["scale"] / jnp.sqrt(var + EPSILON)
        kernel += branch_kernel * factor
        bias += params[branch]["bias"] - mean * factor
    module = DeployBlock(kernel.shape[3], _stride(block))
    folded = {"params": {"reparam_conv": {"kernel": kernel, "bias": bias}}}
    return Block(folded, block.name, tapped(module), block.nonnegative)


def _stride(block: Block) -> int:
    """1 or 2: how much a block in training form shrinks its input."""
    kernel = block.params["params"]["conv_kxk.conv"]["kernel"]
    x = jax.ShapeDtypeStruct((1, 8, 8, kernel.shape[2]), jnp.float32)
    return 8 // jax.eval_shape(block.apply, block.params, x)[0].shape[1]


def torch_prefix(name: str) -> str:
    """Where timm's checkpoints keep a block."""
    return f"{name}."
