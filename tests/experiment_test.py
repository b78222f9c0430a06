import numpy as np

from dci_jax import experiment


def test_floors_know_nothing_of_their_image():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 2, 2, 3), np.uint8)
    floors = experiment.floors(pixels, seed=0)
    assert (floors["mean_image"] == floors["mean_image"][0]).all()
    for guess, truth in zip(floors["random_image"], pixels, strict=True):
        assert not np.array_equal(guess, truth)
        assert any(np.array_equal(guess, other) for other in pixels)
