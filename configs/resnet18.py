"""The data-free audit of torchvision's ImageNet ResNet-18 at 224 px, down to layer3.1, on two CPU cores.

    python -m dci_jax.main --config=configs/resnet18.py --workdir=runs/resnet18 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Two CPU cores that short tests shared, 24 GiB, JAX 0.10.2, 2026-11-27: 30 minutes to solve the four chains, 6.6 to read back 200 photographs. To expect,
PSNR of the single forward pass: stem 33.2, layer1.1 30.0, layer2.1 24.8, layer3.1 19.5 dB.
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
    config.prior_fitting.update(batch=32, padding=(0,))  # ImageNet's crops have no borders
    config.dci.num_images = 1792
    config.dci.num_validation = 64
    config.dci.batch = 64
    config.dci.max_unknowns = (10000, 9300)  # corrections look at 3 x 3 pixels in layer2.0, too, which halves the image
    config.dci.samples_per_unknown = 50
    return config
