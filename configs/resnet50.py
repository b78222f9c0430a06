"""The data-free audit of torchvision's ImageNet ResNet-50 at 224 px, at every split point: 49 convolutions deep.

    python -m dci_jax.main --config=configs/resnet50.py --workdir=runs/resnet50 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Hardware: one accelerator with 80 GB. Estimated, not measured: 1.0 EFLOP for synthesis and training (--dry_run,
which also states 20 GiB, most of it the inverters' 1.1 billion parameters and Adam's state), so 0.95 hours at
300 TFLOP/s, which is 30 % of an H200's bfloat16 peak; evaluation and refinement come on top. Not run at this size
yet, so there are no figures to expect.
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
