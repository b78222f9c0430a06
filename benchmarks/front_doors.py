"""What `dci` reconstructs from networks loaded in every way: python -m benchmarks.front_doors WEIGHTS KODAK OUT.json [PICTURE.png]

WEIGHTS is torchvision's mobilenet_v2-b0353104.pth, KODAK a folder with the development photographs. MobileNetV2 comes in as a PyTorch
network and as a plain JAX function of the same weights, whose features must be equal; a residual network of Flax NNX, an ONNX file and a
network for grey 28 x 28 images have random weights. Needs PyTorch, torchvision and ONNX.
"""

import json
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

import dci_jax
from benchmarks.usage import arguments
from dci_jax.checkpoints import read
from dci_jax.convert.__main__ import main as convert
from dci_jax.data import images
from dci_jax.network import Network

NORMALIZED = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SETTINGS = dict(num_corrections=3, kernel_size=3, max_unknowns=(4000, 2500), num_validation=32, batch_size=16)
SPLITS = ("features.3", "layer2.0", "layer2")  # the first that a network has
# Of each block of MobileNetV2: expansion, stride (Sandler et al., CVPR 2018, table 2).
BLOCKS = [(1, 1)] + [(6, s) for s in (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)]


def mobilenet_v2(w: dict, x: jax.Array) -> jax.Array:
    """Images [B, H, W, 3] to logits [B, 1000]; `w` has torchvision's names."""

    def layer(x, name, norm, stride=1, groups=1):
        kernel = jnp.transpose(w[f"{name}.weight"], (2, 3, 1, 0))
        pad = ((kernel.shape[0] // 2,) * 2,) * 2
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride,) * 2, pad, feature_group_count=groups, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, var, scale, bias = (w[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + bias

    x = jnp.clip(layer(x, "features.0.0", "features.0.1", 2), 0, 6)
    for number, (expansion, stride) in enumerate(BLOCKS, 1):
        before, conv = x, f"features.{number}.conv"
        if expansion > 1:
            x = jnp.clip(layer(x, f"{conv}.0.0", f"{conv}.0.1"), 0, 6)
        at = int(expansion > 1)
        x = jnp.clip(layer(x, f"{conv}.{at}.0", f"{conv}.{at}.1", stride, x.shape[-1]), 0, 6)
        x = layer(x, f"{conv}.{at + 1}", f"{conv}.{at + 2}")
        x = x + before if x.shape == before.shape else x
    x = jnp.clip(layer(x, "features.18.0", "features.18.1"), 0, 6)
    return x.mean((1, 2)) @ w["classifier.1.weight"].T + w["classifier.1.bias"]


class Residual(nnx.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, inside, outside, stride, rngs):
        self.conv1 = nnx.Conv(inside, outside, (3, 3), (stride,) * 2, use_bias=False, rngs=rngs)
        self.conv2 = nnx.Conv(outside, outside, (3, 3), use_bias=False, rngs=rngs)
        self.norm1, self.norm2 = nnx.BatchNorm(outside, rngs=rngs), nnx.BatchNorm(outside, rngs=rngs)
        self.past = nnx.Conv(inside, outside, (1, 1), (stride,) * 2, rngs=rngs) if stride > 1 else lambda x: x

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(y)) + self.past(x))


class ResNet(nnx.Module):
    """Nine layers for small images of any number of channels."""

    def __init__(self, channels, rngs):
        self.stem = nnx.Conv(channels, 16, (3, 3), rngs=rngs)
        self.layer1, self.layer2 = Residual(16, 16, 1, rngs), Residual(16, 32, 2, rngs)
        self.layer3 = Residual(32, 64, 2, rngs)
        self.classifier = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.classifier(self.layer3(self.layer2(self.layer1(self.stem(x)))).mean((1, 2)))


def nnx_network(side: int, channels: int) -> Network:
    """`ResNet` with random weights."""
    model = ResNet(channels, nnx.Rngs(0))
    model.eval()
    definition, state = nnx.split(model)
    shape = (side, side, channels)
    return dci_jax.from_jax(lambda state, x: nnx.merge(definition, state)(x), state, shape, name="ResNet of Flax NNX")


def onnx_network(folder: Path) -> Network:
    """torchvision's ResNet-18 with random weights and a stem for small images, exported for 64 px."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    torch.onnx.export(model, torch.zeros(1, 3, 64, 64), folder / "resnet18.onnx", dynamo=False)
    return dci_jax.from_onnx(folder / "resnet18.onnx")


def solved(network: Network, split: str, private: np.ndarray, side: int) -> tuple[dict, jax.Array]:
    """(a row, the reconstructions) of `dci` at `split`; the chain is solved on procedural images.

    They have `side` pixels and are fitted to the network's statistics; 0: they have the network's own size, and are not fitted.
    """
    begin, key = time.monotonic(), jax.random.key(0)
    steps = 60 if side else 0
    prior = dci_jax.fit_prior(network, key=key, side=side, num_steps=steps, batch_size=32, padding=(0,), progress=False)
    chain = dci_jax.solve_chain(network, split, prior, key=key, num_images=96, progress=False, **SETTINGS)
    features = dci_jax.features_at(network, split, private)
    found = jnp.concatenate([chain(features[i : i + 1]) for i in range(len(features))])
    row = {
        "split": split,
        "image": "x".join(map(str, private.shape[1:])),
        "numbers": int(np.prod(features.shape[1:])),
        "psnr": round(float(dci_jax.metrics.psnr(found, private).mean()), 2),
        "ssim": round(float(dci_jax.metrics.ssim(found, private).mean()), 3),
        "seconds": round(time.monotonic() - begin),
    }
    return row, found


def main(weights: str, kodak: str, out: str, picture: str = "") -> None:
    """Measure every way, write the rows, and draw the last image of each with its reconstruction."""
    photographs = images.load(Path(kodak), (224, 224, 3), count=4).pixels / np.float32(255)
    wide = images.load(Path(kodak), (360, 640, 3), count=2).pixels / np.float32(255)
    tiles = np.float32(images.photographs((32, 32, 3), tiles=4).pixels) / 255
    grey = np.float32(images.photographs((28, 28, 1), tiles=4).pixels) / 255
    larger = np.float32(images.photographs((64, 64, 3), tiles=1).pixels) / 255
    rows, pairs, features = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        bundle, names = Path(folder) / "mobilenet_v2", ["--mean", *map(str, NORMALIZED["mean"])]
        names += ["--std", *map(str, NORMALIZED["std"]), f"--weights={weights}", f"--out={bundle}"]
        if convert(["torchvision.models:mobilenet_v2", *names]):
            raise SystemExit(2)
        w = {name: jnp.asarray(array) for name, array in read.read(Path(weights)).items()}
        cases = {
            "PyTorch, converted": (lambda: dci_jax.load_network("bundle", bundle), photographs, 96),
            "a JAX function": (lambda: from_function(w, (224, 224, 3)), photographs, 96),
            "a JAX function, 640 x 360": (lambda: from_function(w, (360, 640, 3)), wide, 96),
            "Flax NNX": (lambda: nnx_network(32, 3), tiles, 0),
            "Flax NNX, grey": (lambda: nnx_network(28, 1), grey, 0),
            "ONNX": (lambda: onnx_network(Path(folder)), larger, 0),
        }
        for door, (load, private, side) in cases.items():
            network = load()
            split = next(s for s in SPLITS if s in dci_jax.split_names(network))
            row, found = solved(network, split, private, side)
            features[door] = np.asarray(dci_jax.features_at(network, split, private[:2]))
            rows.append({"door": door, "network": network.name, **row})
            pairs.append((private[-1], np.asarray(found[-1])))
            print(json.dumps(rows[-1]), flush=True)
    one, other = (features[door] for door in list(cases)[:2])
    difference = float(np.abs(one - other).max() / np.abs(one).max())
    Path(out).write_text(
        json.dumps({"two_doors_differ_by": difference, "rows": rows, "jax": jax.__version__}, indent=1)
    )
    if picture:
        drawn(pairs).save(picture)


def from_function(w: dict, shape: tuple[int, int, int]) -> Network:
    """MobileNetV2 by `from_jax`, with a split point where the converted one has it."""
    return dci_jax.from_jax(mobilenet_v2, w, shape, name="mobilenet_v2", **NORMALIZED)


def drawn(pairs: list[tuple[np.ndarray, np.ndarray]], height: int = 160) -> Image.Image:
    """Originals above their reconstructions, each `height` pixels high."""

    def scaled(image):
        image = np.uint8(np.clip(np.round(255 * image), 0, 255))
        image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
        return Image.fromarray(image).resize((round(height * image.shape[1] / image.shape[0]), height), Image.NEAREST)

    columns = [[scaled(image) for image in pair] for pair in pairs]
    sheet = Image.new("RGB", (sum(a.width + 4 for a, _ in columns), 2 * height + 4), "white")
    left = 0
    for column in columns:
        for line, image in enumerate(column):
            sheet.paste(image, (left, line * (height + 4)))
        left += column[0].width + 4
    return sheet


if __name__ == "__main__":
    main(*arguments(__doc__, 3, 4))
