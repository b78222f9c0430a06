import jax
import numpy as np
import pytest

from dci_jax.inputs import procedural

SHAPE = (32, 32, 3)


@pytest.mark.parametrize("name", procedural.GENERATORS)
def test_images_are_valid_seeded_and_different(name):
    generate = procedural.GENERATORS[name]
    images = np.asarray(generate(jax.random.key(0), 8, SHAPE))
    assert images.shape == (8, *SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.all(images.std((1, 2, 3)) > 0.005)
    np.testing.assert_array_equal(images, generate(jax.random.key(0), 8, SHAPE))
    assert np.abs(images[0] - images[1]).mean() > 0.01


def neighbours(images):
    """Correlation of a pixel with the one beside it."""
    return np.corrcoef(images[:, :, 1:].ravel(), images[:, :, :-1].ravel())[0, 1]


@pytest.mark.slow
def test_procedural_images_are_smooth_like_photographs_and_white_noise_is_not():
    images = {
        name: np.asarray(generate(jax.random.key(0), 64, SHAPE)) for name, generate in procedural.GENERATORS.items()
    }
    assert neighbours(images["dead_leaves"]) > 0.7
    assert neighbours(images["pink_noise"]) > 0.7
    assert abs(neighbours(images["white_noise"])) < 0.05


def test_other_shapes_work():
    assert procedural.dead_leaves(jax.random.key(0), 2, (24, 16, 1)).shape == (2, 24, 16, 1)
