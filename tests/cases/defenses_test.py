import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.cases.defenses import DEFENSES

FEATURES = jnp.array(np.random.default_rng(0).gamma(1.0, 2.0, size=(4, 16, 16, 8)), jnp.float32)


def defend(name, strength):
    return np.asarray(DEFENSES[name](jax.random.key(0), FEATURES, strength))


@pytest.mark.parametrize("name", DEFENSES)
def test_shape_is_kept_and_the_same_key_gives_the_same(name):
    strength = {"quantize": 4.0}.get(name, 0.5)
    assert defend(name, strength).shape == FEATURES.shape
    np.testing.assert_array_equal(defend(name, strength), defend(name, strength))


@pytest.mark.parametrize(("name", "expected"), [("gaussian", 0.5), ("laplace", 0.5 * np.sqrt(2))])
def test_noise_is_measured_in_the_features_deviation(name, expected):
    noise = defend(name, 0.5) - FEATURES
    assert noise.std() / FEATURES.std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["dropout", "prune"])
def test_the_share_that_becomes_zero(name):
    assert np.mean(defend(name, 0.9) == 0) == pytest.approx(0.9, abs=0.01)


def test_prune_keeps_the_largest():
    kept = defend("prune", 0.75)
    assert np.abs(kept)[kept != 0].min() >= np.quantile(np.abs(FEATURES[0]), 0.7)


def test_quantisation_to_b_bits_leaves_that_many_levels():
    assert len(np.unique(defend("quantize", 2.0)[0])) == 4
    assert np.abs(defend("quantize", 8.0) - FEATURES).max() < np.ptp(FEATURES) / 255
