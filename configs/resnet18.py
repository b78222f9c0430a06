"""The data-free audit of torchvision's ImageNet ResNet-18 at 224 px, at every split point.

    python -m dci_jax.main --config=configs/resnet18.py --workdir=runs/resnet18 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Hardware: one accelerator with 80 GB. Estimated, not measured: 132 PFLOP for synthesis and training (--dry_run,
which also states 4 GiB), so 0.12 hours at 300 TFLOP/s, which is 30 % of an H200's bfloat16 peak; evaluation and
refinement come on top. Not run at this size yet, so there are no figures to expect; those of
configs/resnet18_cpu.py, with 1 % of the steps, are measured.
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
