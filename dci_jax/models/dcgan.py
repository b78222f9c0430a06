"""A small DCGAN generator of 32x32 images (Radford et al., ICLR 2016): latents -> images.

Transposed convolutions with BatchNorm and leaky ReLUs double the features from 4x4 on. The form and the names
are those of the published generator of faces fletchersarip93/face-generator, which differs from the
paper in a 3x3 convolution behind the first layer, in the missing activation before that
convolution, and in the leaky ReLUs of a generator.
"""

from dataclasses import replace

from flax import linen as nn
from jaxtyping import Float

from dci_jax.models.layers import BatchNorm, chain, conv
from dci_jax.network import Network
from dci_jax.typing import Array

LATENT = 100  # entries of a latent, uniform in [-1, 1]
SLOPE = 0.2  # of the leaky ReLUs, below zero
KERNEL = 4  # side of the transposed convolutions' kernels


def transposed(features: int, stride: int, padding: int, use_bias: bool = False, name=None):
    """PyTorch's ConvTranspose2d of 4 x 4 pixels, whose `padding` is what is cut off on every side."""
    pad = (KERNEL - 1 - padding,) * 2
    return nn.ConvTranspose(
        features,
        (KERNEL, KERNEL),
        (stride, stride),
        (pad, pad),
        use_bias=use_bias,
        kernel_init=nn.initializers.normal(0.02),
        transpose_kernel=True,
        name=name,
    )


class Project(nn.Module):
    """Codes [B, 100] -> [B, 4, 4, 256], of either sign."""

    train: bool = False

    @nn.compact
    def __call__(self, z: Float[Array, "B C"]) -> Float[Array, "B ..."]:
        x = transposed(256, 1, 0, name="0")(z[:, None, None])
        return BatchNorm(self.train, name="1")(x)


class Convolution(nn.Module):
    """[B, H, W, C] -> [B, H, W, features], of either sign."""

    features: int
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = BatchNorm(self.train, name="1")(conv(self.features, 3, name="0")(x))
        return nn.leaky_relu(x, SLOPE)


class Double(nn.Module):
    """[B, H, W, C] -> [B, 2 H, 2 W, features], of either sign."""

    features: int
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = transposed(self.features, 2, 1, name="0")(x)
        return nn.leaky_relu(BatchNorm(self.train, name="1")(x), SLOPE)


class Image(nn.Module):
    """[B, H, W, C] -> images [B, 2 H, 2 W, 3] in [0, 1]."""

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = transposed(3, 2, 1, use_bias=True, name="0")(x)
        return (nn.tanh(x) + 1) / 2


def dcgan(key: Array, train: bool = False) -> Network:
    """A randomly initialised generator, one block per layer; no head.

    It takes latents [B, 100], uniform in [-1, 1], and gives images [B, 32, 32, 3] in [0, 1] at its last
    split point, "image".

    Args:
      key: for the weights.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    modules = [
        ("generator_deconv.0", Project(train)),
        ("generator_deconv.1", Convolution(128, train)),
        ("generator_deconv.2", Double(64, train)),
        ("generator_deconv.3", Double(32, train)),
        ("image", Image()),
    ]
    blocks, _ = chain(key, (LATENT,), modules, None)
    blocks = tuple(replace(block, nonnegative=False) for block in blocks)
    return Network(blocks, None, "dcgan_32", (LATENT,), latent="uniform")


def torch_prefix(name: str) -> str:
    """Where the published checkpoint keeps a block."""
    return "generator_deconv.4." if name == "image" else f"{name}."
