"""The data-free audit of torchvision's ImageNet MobileNetV2 at 224 px, one split point at the end of each stage.

    python -m dci_jax.convert torchvision.models:mobilenet_v2 --weights=mobilenet_v2-b0353104.pth --out=bundles/mobilenet_v2 \\
        --mean .485 .456 .406 --std .229 .224 .225 --crop=.875
    python -m dci_jax.main --config=configs/mobilenet_v2.py --workdir=runs/mobilenet_v2 \\
        --config.target.weights=bundles/mobilenet_v2 --config.data.images=photographs/ --config.data.labels=labels.csv
"""

from configs import resnet18


def get_config():
    config = resnet18.get_config()
    config.target.name = "bundle"
    config.splits = (
        "features.0",
        "features.1.conv",
        "features.3",
        "features.6",
        "features.10",
        "features.13",
        "features.17.conv",
    )
    config.dci.num_images = 1024
    config.dci.num_corrections = 5
    config.dci.max_unknowns = (9300, 5200)
    return config
