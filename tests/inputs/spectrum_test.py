import jax
import numpy as np
import pytest

from dci_jax.inputs.spectrum import BANDS, NODES, filtered, halved, identity

NONE = np.zeros(3, np.float32)


def wave(size, cycles, color=(1.0, 1.0, 1.0)):
    """A cosine of so many cycles per pixel along the columns, one of the transform's own, about mid-grey."""
    line = 0.2 * np.cos(np.pi * (np.arange(size) + 0.5) * 2 * cycles)
    return np.float32(0.5 + np.broadcast_to(line[:, None] * np.array(color), (1, size, size, 3)))


@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (2, 24, 40, 3)])
def test_the_identity_changes_nothing(shape):
    images = np.asarray(jax.random.uniform(jax.random.key(0), shape))
    np.testing.assert_allclose(filtered(images, identity(3), NONE), images, atol=2e-6)


@pytest.mark.parametrize("size", [32, 64])
def test_a_band_changes_its_frequency_and_no_other_at_every_size(size):
    bands = identity(3)
    bands[1 + NODES.index(1 / 8)] *= 0.5
    for cycles, left in ((1 / 4, 1.0), (1 / 8, 0.5), (1 / 16, 1.0)):
        before = wave(size, cycles)
        after = np.asarray(filtered(before, bands, NONE))
        np.testing.assert_allclose(after - 0.5, left * (before - 0.5), atol=1e-6)
    between = np.asarray(filtered(wave(size, 3 / 16), bands, NONE)) - 0.5
    ratio = np.abs(between).max() / np.abs(wave(size, 3 / 16) - 0.5).max()
    assert 0.75 < ratio < 0.85  # 3/16 lies nearer to 1/4 on a logarithmic scale


def test_the_first_band_is_the_mean_and_the_shift_moves_it():
    images = np.full((1, 16, 16, 3), 0.6, np.float32)
    bands = identity(3)
    bands[0] = 2 * np.eye(3)
    np.testing.assert_allclose(filtered(images, bands, NONE), 0.7, atol=1e-6)
    shifted = np.asarray(filtered(images, identity(3), np.float32([0.1, 0, -0.7])))
    np.testing.assert_allclose(shifted[0, 3, 3], [0.7, 0.6, 0.0], atol=1e-6)  # cut at zero


def test_halved_leaves_brightness_and_takes_fine_colours():
    assert halved(3).shape == (BANDS, 3, 3)
    grey = wave(32, 1 / 4)
    np.testing.assert_allclose(filtered(grey, halved(3), NONE), grey, atol=1e-6)
    colored = wave(32, 1 / 4, (1.0, 0.0, -1.0))
    np.testing.assert_allclose(filtered(colored, halved(3), NONE) - 0.5, 0.5 * (colored - 0.5), atol=1e-6)
