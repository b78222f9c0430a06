"""A published DCGAN of 32 px CelebA faces, walked backwards: latents from images, without any real image.

    python -m dci_jax.main --config=configs/dcgan_celeba.py --workdir=runs/dcgan_celeba \\
        --config.target.weights=generator.pt
    python -m dci_jax.main --config=configs/dcgan_celeba.py:latent_optimisation \\
        --workdir=runs/dcgan_latent_optimisation --config.target.weights=generator.pt

The second starts from the prior's mean, latent by latent: what GAN inversion does where nothing is trained.
Two CPU cores, JAX 0.10.2, 2026-11-26: with --config.attacks="('dci',)" --config.splits="('image',)" 10 minutes to solve; to
expect, in one forward pass from the image: cosine .85, 33.7 dB.
The weights are those of fletchersarip93/face-generator (`weights/generator.pt` there).
"""

from configs import default

VARIANTS = {
    "data_free": (
        "dci",
        "dci+gauss_newton",
        "dci_trained",
        "dci_trained+refine",
        "dci_trained+gauss_newton",
        "inverse_network",
    ),
    "latent_optimisation": ("rmle", "gauss_newton"),
}


def get_config(variant: str = "data_free"):
    config = default.get_config()
    config.target.name = "dcgan_32"
    config.data.count = 500
    config.attacks = VARIANTS[variant]
    # A latent has one pixel only, so that its map, of 8493 unknowns, needs as many latents as are to be had.
    config.dci.num_images = 24000
    config.dci.num_validation = 1000
    config.dci.batch = 500
    config.dci_trained.width = 1.0
    config.dci_trained.cap = 256
    # Weighed on latents of the prior, which are free: one round of three convolutions against two of two,
    # 60 latents a step against 20, L1 against L2, each for as long. Without the clip conquer diverged.
    config.dci_trained.num_corrections = 1
    config.dci_trained.depth = 3
    config.dci_trained.batch = 60
    config.dci_trained.divide_steps = 400
    config.dci_trained.conquer_warmup = 50
    config.dci_trained.conquer_clip = 1.0
    config.dci_trained.conquer = (("image", 5000),)
    # Only one latent in five is read back from the image till then. The last steps have a chain of their own, so
    # that splits inside lose nothing by them.
    config.dci_trained.deepest_steps = 4000
    config.refine.splits = ("image",)
    config.refine.steps = 300
    config.rmle.splits = ("image",)
    config.rmle.steps = 1000
    config.rmle.learning_rate = 0.05
    config.gauss_newton.splits = ("image",)
    config.gauss_newton.steps = 12 if variant == "data_free" else 20
    config.inverse_network.splits = ("image",)
    config.inverse_network.batch = 64
    config.inverse_network.steps = 4000
    if variant == "latent_optimisation":
        config.corruptions = ()
    return config
