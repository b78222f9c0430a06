"""Makes cifar_resnet20.npz: what PyTorch answers for seeded weights. `python -m tests.golden.cifar_resnet`

The network is written from the paper (He et al., 2016, section 4.2, option A), independently of the
Flax one.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.seeded import random_images, random_state

FILE = Path(__file__).parent / "cifar_resnet20.npz"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Residual(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.pad = stride, (after - before) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return (y + functional.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))).relu()


class ResNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        count, before = (depth - 2) // 6, 16
        for stage, after in enumerate((16, 32, 64), 1):
            blocks = []
            for index in range(count):
                blocks.append(Residual(before, after, 2 if stage > 1 and index == 0 else 1))
                before = after
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def answer(depth, state, images):
    """Logits [B, 10] and the batch statistics of the last BatchNorm's input, by PyTorch."""
    model = ResNet(depth).eval()
    full = {**model.state_dict(), **{name: torch.tensor(value) for name, value in state.items()}}
    model.load_state_dict(full)
    caught = {}
    last = model.layer3[-1].bn2
    last.register_forward_hook(lambda _, inputs, __: caught.update(x=inputs[0]))
    x = torch.tensor(((images - MEAN) / STD).transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = model(x).numpy()
    found = caught["x"].double()
    return logits, found.mean((0, 2, 3)).numpy(), found.var((0, 2, 3), unbiased=False).numpy()


if __name__ == "__main__":
    shapes = {k: tuple(v.shape) for k, v in ResNet(20).state_dict().items() if v.ndim}
    logits, mean, var = answer(20, random_state(shapes, seed=3), random_images(32))
    np.savez(FILE, logits=logits, mean=mean, var=var)
