"""An SNGAN trained here on CIFAR-10, walked backwards: latents from images, without any real image.

    python -m dci_jax.main --config=configs/sngan_narrow.py --workdir=runs/sngan_narrow
    python -m dci_jax.main --config=configs/sngan_narrow.py:equal_time --workdir=runs/sngan_equal_time
    python -m dci_jax.main --config=configs/sngan_narrow.py:hundredfold --workdir=runs/sngan_hundredfold

The generator comes with the package: the 32 px form with an eighth of the channels. The second and the third are
latent optimisation from the prior's mean, code by code, for as long as DCI's pass and a hundred times as long.
"""

from configs import default


def data_free(config):
    """DCI, one forward pass and then refined in two ways, and the direct encoder."""
    config.attacks = (
        "dci",
        "dci+gauss_newton",
        "dci_trained",
        "dci_trained+refine",
        "dci_trained+gauss_newton",
        "inverse_network",
    )


def equal_time(config):
    """As many steps as take as long as DCI's pass: `python -m benchmarks.latent_time sngan_narrow`."""
    config.attacks, config.corruptions = ("rmle",), ()
    config.rmle.steps = 3


def hundredfold(config):
    """A hundred times as long."""
    config.attacks, config.corruptions = ("rmle",), ()
    config.rmle.steps = 300
    config.rmle.learning_rate = 0.2  # best of .05, .2 and .5 on latents of another seed


VARIANTS = {f.__name__: f for f in (data_free, equal_time, hundredfold)}


def get_config(variant: str = "data_free"):
    config = default.get_config()
    config.target.name = "sngan_narrow"
    config.data.count = 200
    config.dci_trained.width = 2.0
    config.dci_trained.num_corrections = 1
    config.dci_trained.depth = 3
    config.dci_trained.batch = 40
    config.dci_trained.divide_steps = 600
    config.dci_trained.conquer_warmup = 50
    config.dci_trained.conquer_clip = 1.0
    config.dci_trained.conquer = (("image", 3000),)
    config.dci_trained.deepest_steps = 1500
    config.refine.splits = ("image",)
    config.refine.steps = 300
    config.gauss_newton.splits = ("image",)
    config.gauss_newton.steps = 8
    config.rmle.splits = ("image",)
    config.rmle.learning_rate = 0.05
    config.inverse_network.splits = ("image",)
    config.inverse_network.batch = 64
    config.inverse_network.steps = 1500
    VARIANTS[variant](config)
    return config
