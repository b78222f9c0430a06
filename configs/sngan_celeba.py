"""The SNGAN generator of 128 px faces (Miyato et al., ICLR 2018), walked backwards: latents from images, data-free.

    python -m dci_jax.main --config=configs/sngan_celeba.py --workdir=runs/sngan_celeba \\
        --config.target.weights=netG_100000_steps.pth

The weights are a checkpoint of the PyTorch library mimicry, `sngan_128` trained on CelebA; for its forms for
32 and 64 pixels give --config.target.name=sngan_32 or sngan_64. Not run yet with such a checkpoint.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.target.name = "sngan_128"
    config.data.count = 500
    config.attacks = (
        "dci_trained",
        "dci_trained+refine",
        "dci_trained+gauss_newton",
        "inverse_network",
        "rmle",
    )
    config.batch = 50
    config.dci_trained.width = 1.0
    config.dci_trained.cap = 256
    config.dci_trained.num_corrections = 1
    config.dci_trained.depth = 3
    config.dci_trained.batch = 128
    config.dci_trained.precision = "bfloat16"
    config.dci_trained.learning_rate = 1e-3
    config.dci_trained.divide_steps = 5000
    config.dci_trained.conquer_warmup = 200
    config.dci_trained.conquer_clip = 1.0  # without it conquer diverged on the DCGAN
    config.dci_trained.deepest_steps = 5000
    config.dci_trained.conquer = (("block4", 5000), ("image", 20000))
    config.refine.splits = ("image",)
    config.refine.steps = 300
    config.rmle.splits = ("image",)
    config.rmle.steps = 1000
    config.rmle.learning_rate = 0.05
    config.gauss_newton.splits = ("image",)
    config.inverse_network.splits = ("image",)
    config.inverse_network.batch = 64
    config.inverse_network.steps = 20000
    return config
