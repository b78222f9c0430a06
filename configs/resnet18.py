"""The data-free audit of torchvision's ImageNet ResNet-18 at 224 px, down to layer3.1, on two CPU cores.

    python -m dci_jax.main --config=configs/resnet18.py --workdir=runs/resnet18 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Not measured yet with these counts; with 480 images of 96 px and without cycle consistency it took ten minutes: README.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.target.name = "resnet18"
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.attacks = ("dci",)
    config.batch = 20
    # Inverters are convolutional: solved on small images, they read back large ones.
    config.inputs.side = 128
    config.dci.images = 1280
    config.dci.held_out = 96
    config.dci.batch = 32
    config.dci.equations = 40
    return config
