"""Makes repvgg_a0.npz: what PyTorch answers for seeded weights. `python -m tests.golden.repvgg`

The network is written from the paper (Ding et al., 2021, section 3 and table 2), independently of the
Flax one; the names of its layers are timm's.
"""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tests.golden.resnet import write

COUNTS = (2, 4, 14, 1)
# Network -> (channels, strides of a stage's first block, both from the stem on), classes
SHAPES = {
    "repvgg_a0": ((48, 48, 96, 192, 1280), (2, 2, 2, 2, 2), 1000),
    "repvgg_cifar": ((16, 16, 32, 64, 256), (1, 1, 2, 2, 2), 10),
}


class Branch(nn.Module):
    def __init__(self, before, after, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x):
        return self.bn(self.conv(x))


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv_kxk = Branch(before, after, 3, stride)
        self.conv_1x1 = Branch(before, after, 1, stride)
        self.identity = nn.BatchNorm2d(after) if before == after and stride == 1 else None

    def forward(self, x):
        y = self.conv_kxk(x) + self.conv_1x1(x)
        return (y if self.identity is None else y + self.identity(x)).relu()


class RepVGG(nn.Module):
    def __init__(self, name):
        super().__init__()
        channels, strides, classes = SHAPES[name]
        self.stem = Block(3, channels[0], strides[0])
        stages, before = [], channels[0]
        for count, after, stride in zip(COUNTS, channels[1:], strides[1:], strict=True):
            first = Block(before, after, stride)
            stages.append(nn.Sequential(first, *(Block(after, after, 1) for _ in range(count - 1))))
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential()
        self.head.add_module("fc", nn.Linear(before, classes))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def fold(block):
    """The kernel [after, before, 3, 3] and bias [after] of the one convolution that a block amounts to."""
    kernel, bias = 0, 0
    branches = [(block.conv_kxk.conv, block.conv_kxk.bn), (block.conv_1x1.conv, block.conv_1x1.bn)]
    if block.identity is not None:
        same = nn.Conv2d(block.identity.num_features, block.identity.num_features, 1, bias=False)
        nn.init.dirac_(same.weight)
        branches.append((same, block.identity))
    with torch.no_grad():
        for conv, norm in branches:
            fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
            kernel += nn.functional.pad(fused.weight, [1 - conv.padding[0]] * 4)
            bias += fused.bias
    return kernel.numpy(), bias.numpy()


if __name__ == "__main__":
    write("repvgg_a0", RepVGG("repvgg_a0"), seed=0)
