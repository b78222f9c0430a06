"""The data-free audit of torchvision's ImageNet MobileNetV2 at 224 px, one split point at the end of each stage.

    python -m dci_jax.convert torchvision.models:mobilenet_v2 --weights=mobilenet_v2-b0353104.pth --out=bundles/mobilenet_v2 \\
        --mean .485 .456 .406 --std .229 .224 .225 --crop=.875
    python -m dci_jax.main --config=configs/mobilenet_v2.py --workdir=runs/mobilenet_v2 \\
        --config.target.weights=bundles/mobilenet_v2 --config.data.images=photographs/ --config.data.labels=labels.csv
    python -m dci_jax.main --config=configs/mobilenet_v2.py:deep --workdir=runs/mobilenet_v2_deep \\
        --config.target.weights=bundles/mobilenet_v2 --config.data.images=photographs/ --config.data.labels=labels.csv

The second line is for the last stage alone, where procedural images have too little in common with what the network knows: half of
its inputs are synthesised.
"""

from configs import resnet18


def stages(config):
    """Seven chains, solved on procedural images."""
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


def deep(config):
    """One chain, solved on whole images, half of them synthesised."""
    config.splits = ("features.17.conv",)
    config.inputs.update(side=224, synthetic=1.0)
    config.synthesis.batches = 6
    config.synthesis.batch = 32
    config.synthesis.stages = ((224, 60),)
    config.dci.batch = 32
    config.dci.num_images = 1408
    config.dci.num_validation = 64
    config.dci.samples_per_unknown = 12
    config.dci.num_corrections = 2
    config.dci.max_unknowns = (9300, 5200)


VARIANTS = {f.__name__: f for f in (stages, deep)}


def get_config(variant: str = "stages"):
    config = resnet18.get_config()
    config.target.name = "bundle"
    VARIANTS[variant](config)
    return config
