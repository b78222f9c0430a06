"""DCI with inverters solved by least squares instead of trained, on a CIFAR ResNet-20 at every split point.

    python -m dci_jax.main --config=configs/solved.py --workdir=runs/solved \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz

    python -m dci_jax.main --config=configs/solved.py:resnet18 --workdir=runs/solved18 \\
        --config.target.weights=resnet18.safetensors --config.data.images=photographs --config.data.labels=labels.csv
    python -m dci_jax.main --config=configs/solved.py:resnet50 --workdir=runs/solved50 \\
        --config.target.weights=resnet50.safetensors --config.data.images=photographs --config.data.labels=labels.csv

No gradient step and no synthesis: procedural images alone. Measured on two shared CPU cores, JAX 0.10.2, 2026-11-25: ResNet-20
15 minutes for ten chains, layer1.2 38.0, layer2.2 25.8, layer3.2 16.3 dB (mean image 12.9); ResNet-18 10 minutes, stem 30.2,
layer1.1 28.1, layer2.1 23.6, layer3.1 17.8 dB (mean image 12.2). The ResNet-50 has not been run to its end yet.
"""

from configs import default


def cifar(config):
    """Every split point of a ResNet-20, a chain for each."""
    config.data.count = 200


def resnet18(config):
    """ResNet-18 at 224 px, down to layer3.1, solved on images of 96 px."""
    config.target.name = "resnet18"
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.batch = 20
    config.inputs.side = 96
    config.dci.conquer = ()  # is not run
    config.dci_solved.images = 480
    config.dci_solved.held_out = 48
    config.dci_solved.batch = 24
    config.dci_solved.rounds = 3


def resnet50(config):
    """ResNet-50 at 224 px, down to 49 convolutions, solved on images of 192 px; wide blocks by single pixels."""
    config.target.name = "resnet50"
    config.splits = ("stem", "layer1.2", "layer2.2", "layer2.3", "layer3.2", "layer3.5", "layer4.2")
    config.batch = 20
    config.inputs.side = 192
    config.dci.conquer = ()  # is not run
    config.dci_solved.images = 512
    config.dci_solved.held_out = 32
    config.dci_solved.batch = 16
    config.dci_solved.rounds = 3
    config.dci_solved.unknowns = 7000
    config.dci_solved.equations = 20


VARIANTS = {f.__name__: f for f in (cifar, resnet18, resnet50)}


def get_config(variant: str = "cifar"):
    config = default.get_config()
    config.attacks = ("dci_solved",)
    config.synthesis.batches = 0
    config.inputs.update(bank=0.0, dead_leaves=0.8, pink_noise=0.2)
    VARIANTS[variant](config)
    return config
