"""Makes sngan_32.npz, sngan_64.npz and sngan_128.npz: what PyTorch answers for seeded weights. `python -m tests.golden.sngan`

The generators are written from the paper (Miyato et al., 2018, tables of appendix B), independently of
the Flax ones, with mimicry's names: a narrow form of each.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.seeded import random_latents, random_state

FOLDER = Path(__file__).parent
NARROW = {32: 8, 64: 64, 128: 64}  # side -> ngf
EVERY = 3  # one pixel in so many is kept in the file, along both sides: odd and even ones


class Residual(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.b1, self.b2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.c1 = nn.Conv2d(before, after, 3, padding=1)
        self.c2 = nn.Conv2d(after, after, 3, padding=1)
        self.c_sc = nn.Conv2d(before, after, 1)

    def forward(self, x):
        y = self.c1(double(self.b1(x).relu()))
        return self.c2(self.b2(y).relu()) + self.c_sc(double(x))


def double(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Generator(nn.Module):
    """Codes [B, 128] -> images [B, 3, size, size] in [-1, 1]."""

    def __init__(self, size, ngf):
        super().__init__()
        widths = {
            32: [ngf] * 4,
            64: [ngf, ngf // 2, ngf // 4, ngf // 8, ngf // 16],
            128: [ngf, ngf, ngf // 2, ngf // 4, ngf // 8, ngf // 16],
        }[size]
        self.l1 = nn.Linear(128, ngf * 4 * 4)
        self.blocks = []
        for index, (before, after) in enumerate(itertools.pairwise(widths), 2):
            setattr(self, f"block{index}", Residual(before, after))
            self.blocks.append(f"block{index}")
        self.last = len(widths) + 1
        setattr(self, f"b{self.last}", nn.BatchNorm2d(widths[-1]))
        setattr(self, f"c{self.last}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z):
        x = self.l1(z).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = getattr(self, block)(x)
        return getattr(self, f"c{self.last}")(getattr(self, f"b{self.last}")(x).relu()).tanh()


def answer(model, state, latents, train=False):
    """Images [B, H, W, 3] in [0, 1] and {BatchNorm layer: (mean, biased variance) of its input}; `state` must be all of the model."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **{k: torch.tensor(v) for k, v in state.items()}})
    statistics = {}

    def listen(name):
        def hook(_, inputs, __):
            x = inputs[0].double()
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            statistics[name] = (mean.numpy(), var.numpy())

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(listen(name))
    with torch.no_grad():
        images = model.train(train)(torch.tensor(latents))
    return (images.permute(0, 2, 3, 1).numpy() + 1) / 2, statistics


def write(name, model, seed, scales, latents):
    """`name`.npz: one pixel in EVERY of the images, and of every BatchNorm layer [2, channels]."""
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if v.ndim}
    images, statistics = answer(model, random_state(shapes, seed, scales), latents)
    kept = {layer: np.float32(both) for layer, both in statistics.items()}
    np.savez(FOLDER / f"{name}.npz", images=images[:2, ::EVERY, ::EVERY], **kept)
    print(name, "images' mean and standard deviation", images.mean(), images.std())


if __name__ == "__main__":
    for size, ngf in NARROW.items():
        write(f"sngan_{size}", Generator(size, ngf), size, None, random_latents(128))
