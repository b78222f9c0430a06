"""The data-free audit of the RepVGG for 32x32 images that comes with this package, in its deploy form.

    python -m dci_jax.main --config=configs/repvgg_cifar.py --workdir=runs/repvgg_cifar \\
        --config.data.images=lossless_3000.npz --config.data.count=200

Two CPU cores, JAX 0.10.2, 2026-11-26: 11 minutes to solve. To expect, PSNR of the single forward pass: stem 66.3,
stages.0.1 37.0, stages.1.3 26.8, stages.2.7 18.1 dB.
Made before the prior was fitted: --config.prior_fitting.steps=0 repeats it.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.target.name = "repvgg_cifar"
    config.target.deploy = True
    config.splits = ("stem", "stages.0.1", "stages.1.3", "stages.2.7")
    config.attacks = ("dci",)
    config.dci.kernel_size = 3
    # At 8 x 8 pixels so many images are 190 pixels for each unknown of a first map: held-out images gain .4 dB over 1152.
    config.dci.num_images = 6912
    return config
