import jax
import numpy as np

from dci_jax import blocks
from dci_jax.attacks.rmle import rmle

SETTINGS = {"steps": 60, "learning_rate": 0.05, "total_variation": 0.0}


def attack(network, features, **more):
    read = rmle(network, None, ("stem",), jax.random.key(0), None, **{**SETTINGS, **more})
    return np.asarray(read["stem"](features))


def test_it_finds_the_image_behind_a_shallow_split(network, images):
    features = blocks.run(network, images, 0, 1)
    found = attack(network, features)
    assert np.mean((found - images) ** 2) < 0.3 * images.var()
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_start_is_taken_and_not_lost(network, images):
    features = blocks.run(network, images, 0, 1)
    start = {"stem": lambda _: jax.numpy.asarray(images)}
    found = attack(network, features, start=start, steps=5, learning_rate=1e-3)
    assert np.mean((found - images) ** 2) < 1e-4


def test_an_images_result_does_not_depend_on_its_batch(network, images):
    features = blocks.run(network, images, 0, 1)
    alone = attack(network, features[:1], steps=5, total_variation=0.01)
    np.testing.assert_allclose(
        attack(network, features, steps=5, total_variation=0.01)[:1], alone, atol=1e-4
    )


def test_total_variation_smooths(network, images):
    features = blocks.run(network, images, 0, 1)

    def roughness(x):
        return np.abs(np.diff(x, axis=1)).mean()

    smooth = attack(network, features, total_variation=10.0)
    assert roughness(smooth) < 0.5 * roughness(attack(network, features))
