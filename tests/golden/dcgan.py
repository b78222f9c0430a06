"""Makes dcgan_32.npz: what PyTorch answers for seeded weights. `python -m tests.golden.dcgan`

The generator is written from the description of the published one of faces, independently of the Flax one.
"""

from torch import nn

from tests.golden.seeded import SCALES, random_latents
from tests.golden.sngan import write


class Generator(nn.Module):
    """Codes [B, 100] -> images [B, 3, 32, 32] in [-1, 1]."""

    def __init__(self):
        super().__init__()

        def doubled(before, after):
            return nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)

        self.generator_deconv = nn.Sequential(
            nn.Sequential(nn.ConvTranspose2d(100, 256, 4, bias=False), nn.BatchNorm2d(256)),
            nn.Sequential(
                nn.Conv2d(256, 128, 3, padding=1, bias=False),
                nn.BatchNorm2d(128),
                nn.LeakyReLU(0.2),
            ),
            nn.Sequential(doubled(128, 64), nn.BatchNorm2d(64), nn.LeakyReLU(0.2)),
            nn.Sequential(doubled(64, 32), nn.BatchNorm2d(32), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z):
        return self.generator_deconv(z[:, :, None, None])


if __name__ == "__main__":
    write("dcgan_32", Generator(), 0, SCALES["dcgan_32"], random_latents(100))
