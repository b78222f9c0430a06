"""An SNGAN trained here on CIFAR-10, walked backwards: codes from images, without any real image.

    python -m dci_jax.main --config=configs/sngan_narrow.py --workdir=runs/sngan_narrow
    python -m dci_jax.main --config=configs/sngan_narrow.py:latent_optimisation --workdir=runs/sngan_latent_optimisation

The generator comes with the package: the 32 px form with an eighth of the channels. The second starts from
the prior's mean, code by code: what GAN inversion does where nothing is trained.
"""

from configs import dcgan_celeba


def get_config(variant: str = "data_free"):
    config = dcgan_celeba.get_config(variant)
    config.target.name = "sngan_narrow"
    return config
