"""The data-free audit of a published CIFAR-10 ResNet-20 behind every stage, a chain of inverters for each split.

    python -m dci_jax.main --config=configs/cifar_resnet20.py --workdir=runs/cifar_resnet20 \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz

Two CPU cores, JAX 0.10.2, 2026-11-26: 14 minutes beside tests. To expect, PSNR: stem 84.8, layer1.2 45.4, layer2.2 29.0, layer3.2 17.2 dB.

It evaluates the first 200 images of the file. With --config.oracle.images=lossless_3000.npz an oracle is solved the
same way on the others.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.count = 200
    config.splits = ("stem", "layer1.2", "layer2.2", "layer3.2")
    config.attacks = ("dci",)
    config.dci.images = 9216  # deep inverters want many: their features have 64 pixels
    config.dci.batch = 128
    config.dci.rounds = 10
    return config
