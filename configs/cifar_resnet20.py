"""The data-free audit of a published CIFAR-10 ResNet-20 behind every stage, a chain of inverters for each split.

    python -m dci_jax.main --config=configs/cifar_resnet20.py --workdir=runs/cifar_resnet20 \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz
    python -m dci_jax.main --config=configs/cifar_resnet20.py:deep --workdir=runs/cifar_resnet20_deep \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz

Two CPU cores, JAX 0.12.0.1, 2026-12-01: 14 minutes to solve, one to evaluate. To expect, PSNR: stem 87.0, layer1.2 46.0, layer2.2 29.6,
layer3.2 17.6 dB.
The second line: 12 minutes, an estimate for idle cores, and 17.6 dB.

It evaluates the first 200 images of the file. With --config.oracle.images=lossless_3000.npz an oracle is solved the
same way on the others.
"""

from configs import default


def whole(config):
    """A chain behind every stage, from procedural images alone."""
    config.splits = ("stem", "layer1.2", "layer2.2", "layer3.2")


def deep(config):
    """Behind the last stage, whose features answer to what is in an image: three of eight inputs are synthesised."""
    config.splits = ("layer3.2",)
    config.inputs.synthetic = 0.6
    config.synthesis.batches = 8


VARIANTS = {f.__name__: f for f in (whole, deep)}


def get_config(variant: str = "whole"):
    config = default.get_config()
    config.data.count = 200
    config.attacks = ("dci",)
    config.dci.num_images = 9216  # deep inverters want many: their features have 64 pixels
    config.dci.batch = 128
    config.dci.num_corrections = 10
    VARIANTS[variant](config)
    return config
