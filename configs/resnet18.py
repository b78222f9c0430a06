"""The data-free audit of torchvision's ImageNet ResNet-18 at 224 px, at every split point.

    python -m dci_jax.main --config=configs/resnet18.py --workdir=runs/resnet18 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.target.name = "resnet18"
    config.dci.conquer = (
        ("layer1.1", 1000),
        ("layer2.1", 2000),
        ("layer3.1", 4000),
        ("layer4.1", 4000),
    )
    config.refine.splits = ("layer1.1", "layer2.1", "layer3.1", "layer4.1")
    return config
