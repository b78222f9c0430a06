import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.deep_image_prior import deep_image_prior
from dci_jax.inputs.procedural import GENERATORS

SETTINGS = {"width": 8, "levels": 2, "learning_rate": 0.02, "total_variation": 0.0}


def attack(network, features, **more):
    read = deep_image_prior(network, None, ("stem",), jax.random.key(0), None, **SETTINGS | more)
    return np.asarray(read["stem"](features))


@pytest.mark.slow
def test_it_finds_the_image_behind_a_shallow_split(network):
    images = np.asarray(GENERATORS["dead_leaves"](jax.random.key(1), 3, (32, 32, 3)))  # not noise
    features = networks.run(network, images, 0, 1)
    start, found = (attack(network, features, steps=steps) for steps in (1, 150))
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.mean((found - images) ** 2) < 0.5 * images.var()
    assert np.mean((found - images) ** 2) < 0.3 * np.mean((start - images) ** 2)


@pytest.mark.slow
def test_an_images_result_does_not_depend_on_its_batch(network, images):
    features = networks.run(network, images, 0, 1)
    alone = attack(network, features[:1], steps=3)
    np.testing.assert_allclose(attack(network, features, steps=3)[:1], alone, atol=1e-4)
