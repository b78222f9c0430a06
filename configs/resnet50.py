"""The data-free audit of torchvision's ImageNet ResNet-50 at 224 px, at every split point: 49 convolutions deep.

    python -m dci_jax.main --config=configs/resnet50.py --workdir=runs/resnet50 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.target.name = "resnet50"
    config.verifier.name = "resnet18"
    config.dci.conquer = (
        ("layer1.2", 1000),
        ("layer2.3", 2000),
        ("layer3.5", 4000),
        ("layer4.2", 4000),
    )
    config.dci.width = 1.0  # a bottleneck's outer sides are four times as wide as its inside
    config.refine.splits = ("layer1.2", "layer2.3", "layer3.5", "layer4.2")
    return config
