"""What is read from one tensor of a split alone, and from all that are sent: `python -m benchmarks.several_tensors OUT.json`.

Four small networks for 32 px with random weights, as people split them: the encoder of a U-Net with its skips, a feature pyramid, two
branches of other resolutions that exchange (HRNet), and a detector's neck (PAN, as YOLO's). PSNR of `dci` on tiles of four photographs.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import dci_jax
from benchmarks.usage import arguments
from dci_jax.data.images import photographs
from dci_jax.inputs.mixture import Prior

SIDE = 32
SETTINGS = dict(num_images=96, num_validation=32, num_corrections=2, kernel_size=3, max_unknowns=(3000, 1500))


class Conv(nn.Module):
    """A convolution, BatchNorm and ReLU."""

    channels: int
    stride: int = 1
    size: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.channels, (self.size,) * 2, (self.stride,) * 2, use_bias=False)(x)
        return nn.relu(nn.BatchNorm(use_running_average=True)(x))


def larger(x):
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


class UNet(nn.Module):
    """The encoder: what the decoder is given are its three levels."""

    names = ("skip 1", "skip 2", "bottom")

    @nn.compact
    def __call__(self, x):
        sent = []
        for level, channels in enumerate((16, 32, 64)):
            x = nn.max_pool(x, (2, 2), (2, 2)) if level else x
            x = Conv(channels, name=f"b{level}")(Conv(channels, name=f"a{level}")(x))
            sent.append(x)
        return sent


class Pyramid(nn.Module):
    """Features c2 ... c5 of a convolutional network, and p2 ... p5 of the pyramid on them (Lin et al., CVPR 2017)."""

    names = ("c2", "c3", "c4", "c5", "p2", "p3", "p4", "p5")

    @nn.compact
    def __call__(self, x):
        x, c, p = Conv(16, 2, name="stem")(x), [], []
        for level, channels in enumerate((16, 32, 64, 128)):
            x = Conv(channels, name=f"b{level}")(Conv(channels, 1 + (level > 0), name=f"a{level}")(x))
            c.append(x)
        for level in (3, 2, 1, 0):
            lateral = nn.Conv(32, (1, 1), name=f"lateral{level}")(c[level])
            p.insert(0, lateral + larger(p[0]) if p else lateral)
        return [*c, *(nn.Conv(32, (3, 3), name=f"out{level}")(each) for level, each in enumerate(p))]


class Branches(nn.Module):
    """Two resolutions side by side that exchange twice (Sun et al., CVPR 2019)."""

    names = ("high", "low")

    @nn.compact
    def __call__(self, x):
        x = Conv(16, name="stem_b")(Conv(16, 2, name="stem_a")(x))
        high, low = Conv(16, name="high")(x), Conv(32, 2, name="low")(x)
        for number in range(2):
            a, b = Conv(16, name=f"high{number}")(high), Conv(32, name=f"low{number}")(low)
            up = nn.Conv(16, (1, 1), name=f"up{number}")(larger(b))
            down = nn.Conv(32, (3, 3), (2, 2), name=f"down{number}")(a)
            high, low = nn.relu(a + up), nn.relu(b + down)
        return high, low


class Neck(nn.Module):
    """Three scales, from the small one up and down again (Liu et al., CVPR 2018), which YOLO's heads are given."""

    names = ("8 px", "16 px", "32 px")

    @nn.compact
    def __call__(self, x):
        x, c = Conv(16, 2, name="stem")(x), []
        for level, channels in enumerate((32, 48, 64)):
            x = Conv(channels, name=f"b{level}")(Conv(channels, 2, name=f"a{level}")(x))
            c.append(x)
        p5 = Conv(32, size=1, name="p5")(c[2])
        p4 = Conv(32, name="p4")(jnp.concatenate([c[1], larger(p5)], -1))
        p3 = Conv(32, name="p3")(jnp.concatenate([c[0], larger(p4)], -1))
        n4 = Conv(32, name="n4")(jnp.concatenate([Conv(32, 2, name="d3")(p3), p4], -1))
        n5 = Conv(32, name="n5")(jnp.concatenate([Conv(32, 2, name="d4")(n4), p5], -1))
        return p3, n4, n5


SENT = {  # network -> what is sent, by number
    UNet: [(0,), (1,), (2,), (1, 2), (0, 1, 2)],
    Pyramid: [(0,), (3,), (4,), (5,), (6,), (7,), (0, 1, 2, 3), (4, 5, 6, 7)],
    Branches: [(0,), (1,), (0, 1)],
    Neck: [(0,), (1,), (2,), (0, 1, 2)],
}


def measured(module: nn.Module, sent: tuple[int, ...], images: np.ndarray) -> dict:
    """A row of the result: of one network and what is sent of its tensors."""
    variables = module.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))

    def apply(variables, x):
        found = module.apply(variables, x)
        return tuple(found[i] for i in sent) if len(sent) > 1 else found[sent[0]]

    network = dci_jax.from_jax(apply, variables, (SIDE, SIDE, 3), name=type(module).__name__)
    split = network.blocks[-1].name
    prior = Prior((), (("dead_leaves", 0.8), ("pink_noise", 0.2)), (SIDE, SIDE, 3))
    chain = dci_jax.solve_chain(network, split, prior, key=jax.random.key(1), progress=False, **SETTINGS)
    found = chain(dci_jax.features_at(network, split, images))
    return {
        "network": type(module).__name__,
        "sent": " + ".join(type(module).names[i] for i in sent),
        "numbers": int(np.prod(chain.feature_shape)),
        "inverters": len(chain.inverters),
        "psnr": round(float(dci_jax.metrics.psnr(found, images).mean()), 3),
        "ssim": round(float(dci_jax.metrics.ssim(found, images).mean()), 5),
    }


def main(out: str) -> None:
    """Measure all, and write them."""
    images = np.float32(photographs((SIDE, SIDE, 3), tiles=4).pixels) / 255
    rows = []
    for network, choices in SENT.items():
        for sent in choices:
            rows.append(measured(network(), sent, images))
            print(json.dumps(rows[-1]), flush=True)
    Path(out).write_text(json.dumps({"images": len(images), "settings": str(SETTINGS), "rows": rows}, indent=1))


if __name__ == "__main__":
    main(*arguments(__doc__, 1, 1))
