import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.feature_matching import blank
from dci_jax.attacks.rmle import rmle
from dci_jax.errors import InputError

SETTINGS = {"steps": 60, "learning_rate": 0.05, "total_variation": 0.0}


def attack(network, features, **more):
    read = rmle(network, None, ("stem",), jax.random.key(0), None, **{**SETTINGS, **more})
    return np.asarray(read["stem"](features))


def roughness(x):
    return np.abs(np.diff(x, axis=1)).mean()


@pytest.mark.slow
def test_it_finds_the_image_behind_a_shallow_split(network, images):
    features = networks.run(network, images, 0, 1)
    found = attack(network, features)
    assert np.mean((found - images) ** 2) < 0.3 * images.var()
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_blank_start_is_zero_behind_the_normalisation(network):
    (first, *_), _ = networks.trace(network, blank(network, 2), 0, 1)
    np.testing.assert_allclose((first - np.array(network.mean)) / np.array(network.std), 0, atol=1e-6)


def test_an_images_result_does_not_depend_on_its_batch(network, images):
    features = networks.run(network, images, 0, 1)
    alone = attack(network, features[:1], steps=5, total_variation=0.01)
    np.testing.assert_allclose(attack(network, features, steps=5, total_variation=0.01)[:1], alone, atol=1e-4)


def test_total_variation_smooths(network, images):
    features = networks.run(network, images, 0, 1)
    smooth = attack(network, features, total_variation=10.0)
    assert roughness(smooth) < 0.5 * roughness(attack(network, features))


def test_a_split_may_have_a_weight_of_total_variation_of_its_own(network, images):
    features = networks.run(network, images, 0, 1)
    own = attack(network, features, steps=5, total_variation_at=(("stem", 10.0),))
    np.testing.assert_array_equal(own, attack(network, features, steps=5, total_variation=10.0))


def darkness(network, images):
    return jnp.mean(images, (1, 2, 3))


def test_a_prior_pulls_at_the_images(network, images):
    features = networks.run(network, images, 0, 1)
    name = f"{__name__}:darkness"
    dark = attack(network, features, prior=name, prior_weight=10.0)
    assert dark.mean() < 0.5 * attack(network, features).mean()
    unweighted = attack(network, features, prior=name)
    np.testing.assert_allclose(unweighted, attack(network, features), atol=1e-5)


def test_the_documented_prior_takes_out_colour_noise(network):
    from docs.own_prior import colour_is_smooth

    key = jax.random.key(0)
    grey = jnp.broadcast_to(jax.random.uniform(key, (2, 8, 8, 1)), (2, 8, 8, 3))
    coloured = jax.random.uniform(key, (2, 8, 8, 3))
    np.testing.assert_allclose(colour_is_smooth(network, grey), 0, atol=1e-6)
    assert np.all(colour_is_smooth(network, coloured) > 0.1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docs.own_prior", "is a module; give module"),
        ("docs.nowhere:f", "No module"),
        ("docs.own_prior:jnp", "is a module"),
    ],
)
def test_a_prior_that_cannot_be_had_is_told(network, name, said):
    with pytest.raises(InputError, match=said):
        rmle(network, None, ("stem",), jax.random.key(0), None, **SETTINGS, prior=name)
