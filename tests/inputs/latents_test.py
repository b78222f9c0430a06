import jax
import numpy as np
import pytest

from dci_jax.inputs.latents import DEVIATIONS, LATENTS, clip


@pytest.mark.parametrize(
    ("prior", "deviation", "least", "most"),
    [("normal", 1.0, -np.inf, np.inf), ("uniform", 3**-0.5, -1.0, 1.0)],
)
def test_latents_have_the_mean_spread_and_range_of_their_prior(prior, deviation, least, most):
    latents = np.asarray(LATENTS[prior](jax.random.key(0), 500, (100,)))
    assert latents.shape == (500, 100)
    assert latents.dtype == np.float32
    assert abs(latents.mean()) < 0.02
    assert abs(latents.std() - deviation) < 0.02
    assert least <= latents.min() < -0.99
    assert 0.99 < latents.max() <= most
    assert np.abs(np.corrcoef(latents[:2])[0, 1]) < 0.4  # one latent is not the other


@pytest.mark.parametrize("prior", LATENTS)
def test_a_key_gives_the_same_latents_again_and_another_key_others(prior):
    first, again, other = (LATENTS[prior](jax.random.key(seed), 2, (5,)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_inputs_are_cut_to_what_they_can_be():
    values = np.array([-3.0, -0.5, 0.5, 3.0])
    np.testing.assert_array_equal(clip("", values), [0, 0, 0.5, 1])
    np.testing.assert_array_equal(clip("uniform", values), [-1, -0.5, 0.5, 1])
    np.testing.assert_array_equal(clip("normal", values), values)


@pytest.mark.parametrize("prior", LATENTS)
def test_the_stated_deviation_is_the_priors(prior):
    assert abs(LATENTS[prior](jax.random.key(0), 500, (100,)).std() - DEVIATIONS[prior]) < 0.01
