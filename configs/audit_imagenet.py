"""The audit of torchvision's ImageNet ResNet-18 at 224 px: split points x defenses x attackers, one page.

    python -m dci_jax.main --config=configs/audit_imagenet.py --workdir=runs/audit_imagenet \\
        --config.data.images=photographs/ --config.data.labels=labels.csv --config.data.count=40

docs/audit.md explains the page, and has what 40 photographs gave: 71 minutes on two CPU cores that other runs shared (2026-11-28).
"""

from configs import audit


def get_config():
    config = audit.get_config()
    config.target.name = "resnet18"
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.attacks = ("dci", "adapted_dci")
    config.defenses = (
        ("none", 0.0),
        ("gaussian", 1.0),
        ("dropout", 0.5),
        ("quantize", 2.0),
        ("topk", 0.1),
        ("bottleneck", 8.0),
    )
    config.num_queries = (1,)
    config.batch = 20
    config.defense.steps = 60
    # Inverters are convolutional: solved on small images, they read back large ones.
    config.inputs.side = 96
    config.prior_fitting.update(batch=32, padding=(0,))  # ImageNet's crops have no borders
    config.dci.num_images = 128
    config.dci.samples_per_unknown = 40
    config.dci.batch = 16
    config.dci.max_unknowns = (3000, 2500)
    return config
