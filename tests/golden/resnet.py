"""Makes resnet18.npz, ... and resnet34_cifar.npz: what PyTorch answers for seeded weights. `python -m tests.golden.resnet`

The networks are written from the paper (He et al., 2016, table 1, option B), independently of the
Flax ones; the stride of a bottleneck is in its 3x3 convolution, as in torchvision.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.golden.seeded import SCALES, random_images, random_state

FOLDER = Path(__file__).parent
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
CIFAR_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
CIFAR_STD = np.array([0.2023, 0.1994, 0.2010], np.float32)
COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
EVERY = 4  # one channel in so many is kept in the file


class Residual(nn.Module):
    """`relu(shortcut(x) + branch(x))`, with the convolutions (kernel, channels, stride) in the branch."""

    def __init__(self, before, convolutions, name):
        super().__init__()
        first, stride = before, 1
        for index, (kernel, after, step) in enumerate(convolutions, 1):
            layer = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{index}", layer)
            setattr(self, f"bn{index}", nn.BatchNorm2d(after))
            before, stride = after, stride * step
        self.length, self.projection = len(convolutions), name
        if stride != 1 or first != after:
            projection = nn.Conv2d(first, after, 1, stride, bias=False)
            setattr(self, name, nn.Sequential(projection, nn.BatchNorm2d(after)))

    def forward(self, x):
        y = x
        for index in range(1, self.length + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = y.relu() if index < self.length else y
        return (y + getattr(self, self.projection, nn.Identity())(x)).relu()


class ResNet(nn.Module):
    """`small`: the form for 32 px, with the names that its checkpoints have."""

    def __init__(self, depth, small=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, *((3, 1, 1) if small else (7, 2, 3)), bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        if not small:
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        before, name = 64, "shortcut" if small else "downsample"
        for stage, count in enumerate(COUNTS[depth]):
            width, blocks = 64 * 2**stage, []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                plain = [(3, width, stride), (3, width, 1)]
                bottleneck = [(1, width, 1), (3, width, stride), (1, 4 * width, 1)]
                blocks.append(Residual(before, bottleneck if depth == 50 else plain, name))
                before = 4 * width if depth == 50 else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.last = "linear" if small else "fc"
        setattr(self, self.last, nn.Linear(before, 10 if small else 1000))

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.maxpool(x) if hasattr(self, "maxpool") else x
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return getattr(self, self.last)(x.mean((2, 3)))


def answer(model, state, images, mean=MEAN, std=STD):
    """Logits and {BatchNorm layer: (mean, biased variance) of its input}; `state` must be all of the model."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.eval().load_state_dict({**counters, **{k: torch.tensor(v) for k, v in state.items()}})
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
        x = torch.tensor(((images - mean) / std).transpose(0, 3, 1, 2))
        return model(x).numpy(), statistics


def write(name, model, images, seed, *normalisation):
    """`name`.npz: the logits, and of every BatchNorm layer one channel in EVERY, [2, channels]."""
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if v.ndim}
    state = random_state(shapes, seed, SCALES[name])
    logits, statistics = answer(model, state, images, *normalisation)
    kept = {layer: np.float32(both)[:, ::EVERY] for layer, both in statistics.items()}
    np.savez(FOLDER / f"{name}.npz", logits=logits, **kept)


if __name__ == "__main__":
    for depth in COUNTS:
        write(f"resnet{depth}", ResNet(depth), random_images(64), depth)
    write("resnet34_cifar", ResNet(34, small=True), random_images(32), 34, CIFAR_MEAN, CIFAR_STD)
