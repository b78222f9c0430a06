"""The generators of SNGAN for 32, 64 and 128 pixels (Miyato et al., ICLR 2018, appendix B): latents -> images.

A dense layer makes 4x4 features, residual blocks double them (Gulrajani et al., 2017), and
BatchNorm, ReLU, a 3x3 convolution and tanh make the image. The forms for 32 and 128 pixels are the
paper's for CIFAR-10 and ImageNet; the one for 64 is that for 128 without its first block. Names,
and what the paper leaves open (bilinear upsampling, a projected shortcut in every block), are those of
the PyTorch library mimicry. Spectral normalisation is the discriminator's alone.
"""

from dataclasses import replace

import jax
from flax import linen as nn
from jaxtyping import Float

from dci_jax.models.layers import BatchNorm, chain, conv
from dci_jax.network import Network
from dci_jax.typing import Array

LATENT = 128  # entries of a latent, standard normal
BOTTOM = 4  # side of the first features

# side of the image -> (ngf, by how much each residual block's width is smaller than it)
SIZES = {32: (256, (1, 1, 1)), 64: (1024, (2, 4, 8, 16)), 128: (1024, (1, 2, 4, 8, 16))}


class Project(nn.Module):
    """Codes [B, 128] -> [B, 4, 4, features], of either sign."""

    features: int

    @nn.compact
    def __call__(self, z: Float[Array, "B C"]) -> Float[Array, "B ..."]:
        x = nn.Dense(self.features * BOTTOM**2, name="l1")(z)
        x = x.reshape(len(z), self.features, BOTTOM, BOTTOM)  # torch counts channels first
        return x.transpose(0, 2, 3, 1)


class ResidualBlock(nn.Module):
    """[B, H, W, C] -> [B, 2 H, 2 W, features], of either sign; activations come before convolutions."""

    features: int
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        y = nn.relu(BatchNorm(self.train, name="b1")(x))
        y = conv(self.features, 3, name="c1", use_bias=True)(upsample(y))
        y = nn.relu(BatchNorm(self.train, name="b2")(y))
        y = conv(self.features, 3, name="c2", use_bias=True)(y)
        return y + conv(self.features, 1, name="c_sc", use_bias=True)(upsample(x))


class Image(nn.Module):
    """[B, H, W, C] -> images [B, H, W, 3] in [0, 1].

    Attributes:
      index: the layer's number, by which its checkpoint calls it.
      train: see `BatchNorm`.
    """

    index: int
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        x = nn.relu(BatchNorm(self.train, name=f"b{self.index}")(x))
        x = conv(3, 3, name=f"c{self.index}", use_bias=True)(x)
        return (nn.tanh(x) + 1) / 2


def upsample(x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """[B, H, W, C] -> [B, 2 H, 2 W, C], bilinear between pixel centres (torch's align_corners=False)."""
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def sngan(key: Array, size: int, ngf: int | None = None, train: bool = False) -> Network:
    """A randomly initialised generator, one block per layer of the paper's table; no head.

    It takes latents [B, 128], standard normal, and gives images [B, size, size, 3] in [0, 1] at its
    last split point, "image".

    Args:
      key: for the weights.
      size: side of the images in pixels: 32, 64 or 128.
      ngf: channels of the first features; the paper's where None. For 64 and 128 pixels, a multiple
        of 16, because the last block has a sixteenth of them.
      train: BatchNorm uses the batch's statistics (for training the network itself).
    """
    widest, shares = SIZES[size]
    ngf = widest if ngf is None else ngf
    modules = [("l1", Project(ngf))]
    for index, share in enumerate(shares, 2):
        modules.append((f"block{index}", ResidualBlock(ngf // share, train)))
    modules.append(("image", Image(len(shares) + 2, train)))
    blocks, _ = chain(key, (LATENT,), modules, None)
    blocks = tuple(replace(block, nonnegative=False) for block in blocks)
    return Network(blocks, None, f"sngan_{size}", (LATENT,), latent="normal")


def narrow(key: Array, train: bool = False) -> Network:
    """The form for 32 pixels with an eighth of the channels, small enough to be trained on a CPU."""
    return sngan(key, 32, 32, train).replace(name="sngan_narrow")


def torch_prefix(name: str) -> str:
    """Where mimicry's checkpoints keep a block: the first and the last have no prefix of their own."""
    return "" if name in ("l1", "image") else f"{name}."
