"""The data-free audit of torchvision's ImageNet ResNet-34 at 224 px, at every split point.

    python -m dci_jax.main --config=configs/resnet34.py --workdir=runs/resnet34 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Hardware: one accelerator with 80 GB. Not run yet, and its weights were not at hand: --dry_run states FLOPs, memory
and an estimate of the hours, once they are.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.target.name = "resnet34"
    config.dci.conquer = (
        ("layer1.2", 1000),
        ("layer2.3", 2000),
        ("layer3.5", 4000),
        ("layer4.2", 4000),
    )
    config.refine.splits = ("layer1.2", "layer2.3", "layer3.5", "layer4.2")
    return config
