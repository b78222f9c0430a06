"""The data-free audit of torchvision's ImageNet ResNet-50 at 224 px, down to 49 convolutions, on two CPU cores.

    python -m dci_jax.main --config=configs/resnet50.py --workdir=runs/resnet50 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
"""

from configs import default


def get_config():
    config = default.get_config()
    config.attacks = ("dci",)
    config.target.name = "resnet50"
    config.splits = ("stem", "layer1.2", "layer2.3", "layer3.5")
    config.batch = 20
    config.inputs.side = 192
    config.dci.images = 320
    config.dci.held_out = 32
    config.dci.batch = 16
    # First maps look at 5 x 5 pixels in layer1 and 3 x 3 down to layer3, corrections at one behind layer1.0.
    config.dci.unknowns = (9300, 7000)
    config.dci.equations = 20
    return config
