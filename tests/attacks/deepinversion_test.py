import jax
import numpy as np
import pytest

from dci_jax import models
from dci_jax import network as networks
from dci_jax.attacks.deepinversion import deepinversion, statistics_prior
from dci_jax.losses import batch_norm_statistics


def attack(network, features, statistics, split="layer1.0"):
    read = deepinversion(
        network,
        None,
        (split,),
        jax.random.key(0),
        None,
        steps=30,
        learning_rate=0.05,
        total_variation=0.0,
        statistics=statistics,
    )
    return read[split](features)


def distance(network, images):
    _, found = networks.trace(network, images)
    return float(batch_norm_statistics(found, networks.running_statistics(network)))


@pytest.mark.slow
def test_statistics_come_nearer_to_the_networks_own(network, images):
    features = networks.run(network, images, 0, 2)
    with_prior, without = attack(network, features, 1.0), attack(network, features, 0.0)
    assert distance(network, with_prior) < 0.8 * distance(network, without)


@pytest.mark.slow
def test_without_weight_it_still_finds_the_images(network, images):
    found = np.asarray(attack(network, networks.run(network, images, 0, 2), 0.0))
    assert np.mean((found - images) ** 2) < 0.5 * images.var()


def test_a_network_without_batch_norm_is_an_error():
    network = models.MODELS["he_cnn"].build(jax.random.key(0))
    with pytest.raises(ValueError, match="no BatchNorm"):
        statistics_prior(network, np.zeros((1, 32, 32, 3), np.float32))
