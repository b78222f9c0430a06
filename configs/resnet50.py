"""The data-free audit of torchvision's ImageNet ResNet-50 at 224 px, down to 49 convolutions, on two CPU cores.

    python -m dci_jax.main --config=configs/resnet50.py --workdir=runs/resnet50 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
    python -m dci_jax.main --config=configs/resnet50.py:shallow --workdir=runs/resnet50_shallow \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
    python -m dci_jax.main --config=configs/resnet50.py:middle --workdir=runs/resnet50_middle \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
    python -m dci_jax.main --config=configs/resnet50.py:deep --workdir=runs/resnet50_deep \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Two CPU cores that short tests shared, 24 GiB, JAX 0.10.2, 2026-11-27: 53 minutes to solve the six chains, 17 to read back 200 photographs.
To expect, PSNR of the single forward pass: stem 33.0, layer1.2 29.9, layer2.2 26.2, layer2.3 25.9, layer3.2 22.3, layer3.5 20.7 dB.

The second line is for the first stage alone, with twice as many corrections and wider ones: 19 minutes to solve, 6 to read back, and stem 34.0,
layer1.2 32.2 dB. The third is for layer2.3 alone: 12 minutes to solve on idle cores, 6 to read back, 26.0 dB (2026-11-26, the stem as one block).
The fourth is for layer4.0, 43 convolutions deep, and layer4.2, behind all 49: 22 and 29 minutes to solve, 4 each to read back, 17.2 dB and .37 of the
labels, 15.1 dB and .04; its synthesis takes 14 minutes (an estimate, from half of it). layer4.2 needs 10 GiB (2026-11-30).
"""

from configs import default


def whole(config):
    """Six chains, down to 40 convolutions."""
    config.splits = ("stem", "layer1.2", "layer2.2", "layer2.3", "layer3.2", "layer3.5")
    config.dci.batch = 16
    # First maps look at 5 x 5 pixels in layer1 and 3 x 3 down to layer3, corrections at one behind layer1.0.
    config.dci.max_unknowns = (9300, 7000)
    config.dci.samples_per_unknown = 20
    config.dci.num_corrections = 4


def shallow(config):
    """Two chains; corrections look at 3 x 3 pixels in all of layer1."""
    config.splits = ("stem", "layer1.2")
    config.dci.batch = 32
    config.dci.max_unknowns = (9300, 9300)
    config.dci.samples_per_unknown = 40
    config.dci.num_corrections = 8


def middle(config):
    """One chain through 22 convolutions; corrections look at 3 x 3 pixels in layer1.0 and layer2.0."""
    shallow(config)
    config.splits = ("layer2.3",)
    config.dci.samples_per_unknown = 25
    config.dci.num_corrections = 6


def deep(config):
    """Two chains, through 43 and all 49 convolutions, solved on whole images, half of them synthesised."""
    whole(config)
    config.splits = ("layer4.0", "layer4.2")
    config.inputs.update(side=224, synthetic=1.0)
    config.synthesis.batches = 6
    config.synthesis.batch = 32
    config.synthesis.stages = ((224, 60),)
    config.dci.num_images = 1408
    config.dci.num_validation = 64
    config.dci.samples_per_unknown = 12
    config.dci.num_corrections = 2


VARIANTS = {f.__name__: f for f in (whole, shallow, middle, deep)}


def get_config(variant: str = "whole"):
    config = default.get_config()
    config.attacks = ("dci",)
    config.target.name = "resnet50"
    config.batch = 20
    config.inputs.side = 192
    config.prior_fitting.update(batch=32, padding=(0,))  # ImageNet's crops have no borders
    config.dci.num_images = 640
    config.dci.num_validation = 32
    VARIANTS[variant](config)
    return config
