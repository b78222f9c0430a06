"""He, Zhang & Lee's table (ACSAC 2019): their network and split points on CIFAR-10, and data-free DCI beside their attacks.

    python -m dci_jax.main --config=configs/he_cifar.py --workdir=runs/he_cifar \\
        --config.data.images=jpeg_test_5000.zip
    python -m dci_jax.main --config=configs/he_cifar.py:inverse_networks --workdir=runs/he_inverse \\
        --config.data.images=jpeg_test_5000.zip --config.oracle.images=jpeg_train_50000.zip
    python -m dci_jax.main --config=configs/he_cifar.py:same_distribution --workdir=runs/he_same \\
        --config.data.images=jpeg_test_5000.zip --config.oracle.images=jpeg_test_5000.zip
    python -m dci_jax.main --config=configs/he_cifar.py:rmle --workdir=runs/he_rmle \\
        --config.data.images=jpeg_test_5000.zip

The network comes with the package. It has no BatchNorm, so nothing is synthesised: DCI learns from
procedural images. The oracle is the inverse network: trained on the target's own training set, or on the
test images that are not evaluated. The counts are those of two CPU cores; the paper's decoder saw 50 epochs.
"""

from configs import default


def data_free(config):
    """DCI, one forward pass and refined."""
    config.attacks = ("dci", "dci+refine")


def inverse_networks(config):
    """The inverse network on noise, on procedural images and, as the oracle, on the training set."""
    config.attacks = ("inverse_network@white_noise", "inverse_network")


def same_distribution(config):
    """The inverse network on other images of the same distribution, and no other attack."""
    config.attacks = ()


def rmle(config):
    """The published white-box attack, 5000 updates for each image: fewer images, because of the time."""
    config.attacks = ("rmle",)
    config.data.count = 8


VARIANTS = {f.__name__: f for f in (data_free, inverse_networks, same_distribution, rmle)}


def get_config(variant: str = "data_free"):
    config = default.get_config()
    config.target.name = "he_cnn"
    config.splits = ("conv11", "relu22", "relu32")
    config.data.count = 100
    # Total variation was weighed on procedural images: 0, 1 and 3 were best of 0 to 10 at the three splits.
    config.rmle.total_variation_at = (("conv11", 0.0), ("relu22", 1.0), ("relu32", 3.0))
    config.refine.steps = 300
    config.inverse_network.batch = 48
    config.inverse_network.steps = 600
    config.oracle.attack = "inverse_network"
    VARIANTS[variant](config)
    return config
