import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.deep_image_prior import deep_image_prior
from dci_jax.inputs.procedural import GENERATORS

SETTINGS = {"width": 8, "levels": 1, "learning_rate": 0.02, "total_variation": 0.0}


def attack(network, features, **more):
    read = deep_image_prior(network, None, ("stem",), jax.random.key(0), None, **SETTINGS | more)
    return np.asarray(read["stem"](features))


@pytest.mark.slow
def test_it_finds_each_image_behind_a_shallow_split_alone(network):
    images = np.asarray(GENERATORS["dead_leaves"](jax.random.key(1), 2, (32, 32, 3)))  # not noise
    features = networks.run(network, images, 0, 1)
    found = attack(network, features, steps=60)
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.mean((found - images) ** 2) < 0.5 * images.var()
    first = np.mean((attack(network, features[:1], steps=60) - found[:1]) ** 2)
    assert first < 1e-3 * images.var()
