"""DCI with inverters solved by least squares instead of trained, on a CIFAR ResNet-20 at every split point.

    python -m dci_jax.main --config=configs/solved.py --workdir=runs/solved \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz

No gradient step and no synthesis: procedural images alone. `configs/solved.py:imagenet` is the same for
ResNet-18 at 224 px, solved on crops of 96 px.
"""

from configs import default


def cifar(config):
    """Every split point of a ResNet-20, a chain for each."""
    config.data.count = 200


def imagenet(config):
    """ResNet-18 at 224 px, down to layer3.1."""
    config.target.name = "resnet18"
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.batch = 20
    config.dci.conquer = ()  # is not run
    config.inputs.side = 96
    config.dci_solved.images = 480
    config.dci_solved.held_out = 48
    config.dci_solved.batch = 24
    config.dci_solved.rounds = 3


VARIANTS = {f.__name__: f for f in (cifar, imagenet)}


def get_config(variant: str = "cifar"):
    config = default.get_config()
    config.attacks = ("dci_solved",)
    config.synthesis.batches = 0
    config.inputs.update(bank=0.0, dead_leaves=0.8, pink_noise=0.2)
    VARIANTS[variant](config)
    return config
