import jax
import numpy as np
import pytest

from dci_jax.evaluation.corruptions import CORRUPTIONS


def corrupted(name, images, strength, key=0):
    return np.asarray(CORRUPTIONS[name](jax.random.key(key), images, strength))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(3, 16, 16, 3)).astype(np.float32)


def test_noise_has_its_strength_and_stays_in_range():
    grey = np.full((4, 32, 32, 3), 0.5, np.float32)
    found = corrupted("gaussian", grey, 0.1)
    assert abs(found.std() - 0.1) < 0.005
    assert corrupted("gaussian", grey, 5.0).max() <= 1


def test_blur_keeps_the_mean_and_spreads_a_point():
    point = np.zeros((1, 16, 16, 3), np.float32)
    point[:, 8, 8] = 1
    found = corrupted("blur", point, 1.0)
    np.testing.assert_allclose(found.sum((1, 2)), 1, atol=0.02)
    row, _ = np.indices((16, 16))
    spread = (found[0, ..., 0] * ((row - 8) ** 2)).sum()
    assert abs(spread - 1) < 0.1


def test_a_mask_hides_one_square_of_each_image(images):
    found = corrupted("mask", images, 0.25)
    changed = (found != images).any(-1)
    assert (changed.sum((1, 2)) == 16).all()
    np.testing.assert_array_equal(found[changed], 0.5)
    rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
    assert (rows == 4).all()
    assert (columns == 4).all()
    assert (corrupted("mask", images, 0.25, key=1) != found).any()


def test_quantisation_keeps_so_many_levels(images):
    np.testing.assert_array_equal(np.unique(corrupted("quantize", images, 1.0)), [0, 1])
    found = corrupted("quantize", images, 8.0)
    np.testing.assert_allclose(found * 255, np.round(images * 255), atol=1e-3)


def test_none_changes_nothing(images):
    np.testing.assert_array_equal(corrupted("none", images, 1.0), images)
