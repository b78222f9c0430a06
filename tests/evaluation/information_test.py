"""The score of leakage without an attack is the error of the linear-Gaussian model, computed here by matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dci_jax
from dci_jax.evaluation import information
from dci_jax.network import split_names
from dci_jax.pieces import sequential

KEY = jax.random.key(0)


def linear(matrix, shape=(4, 4, 3)):
    """A network that multiplies images by a matrix."""

    def apply(params, x):
        return (x.reshape(len(x), -1) @ params).reshape(len(x), 1, 1, -1)

    return sequential("linear", shape, [("mixed", apply, matrix)])


def test_it_is_the_error_of_the_linear_gaussian_model(monkeypatch):
    monkeypatch.setattr(information, "STEPS", 300)
    monkeypatch.setattr(information, "_LEAST", 0.01)  # a linear network leaves nothing out
    matrix = np.random.default_rng(0).normal(size=(48, 20)).astype(np.float32)
    network = linear(jnp.asarray(matrix))
    root = np.asarray(information._root(jnp.eye(48).reshape(48, 4, 4, 3))).reshape(48, 48)
    np.testing.assert_allclose(root, root.T, atol=1e-5)
    x = jax.random.uniform(KEY, (1, 4, 4, 3))
    features = np.asarray(x).reshape(1, -1) @ matrix
    precision = np.linalg.inv(root @ root) + matrix @ matrix.T / (0.01 * features.var())
    expected = np.trace(np.linalg.inv(precision)) / 48
    found = np.mean([information._error(network, 1, x, key) for key in jax.random.split(KEY, 400)])
    assert abs(found / expected - 1) < 0.1


@pytest.mark.slow
def test_what_is_not_linear_tells_less():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(48, 48)), jnp.float32)

    def bent(strength):
        def apply(params, x):
            y = x.reshape(len(x), -1) @ params
            return (y + strength * jnp.sin(5 * y)).reshape(len(x), 1, 1, -1)

        return sequential("bent", (4, 4, 3), [("mixed", apply, matrix)])

    scores = [information.score(bent(strength), 1, KEY, 4) for strength in (0.0, 0.01, 0.1)]
    assert scores[0] > scores[1] + 3 > scores[2] + 6


@pytest.mark.slow
def test_fewer_features_tell_less():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(48, 48)), jnp.float32)
    many, few = (information.score(linear(matrix[:, :count]), 1, KEY, 4) for count in (48, 8))
    assert many > few + 3


def test_receptive_fields_are_those_of_the_convolutions():
    def conv(size, stride):
        kernel = jax.random.normal(jax.random.key(size), (size, size, 3, 3))

        def apply(params, x):
            return jax.lax.conv_general_dilated(
                x, params, (stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        return apply, kernel

    pieces = [(f"layer{number}", *conv(*each)) for number, each in enumerate([(3, 1), (3, 2), (5, 1)])]
    network = sequential("convolutions", (32, 24, 3), pieces)
    assert information.receptive_fields(network) == [(3, 3), (5, 5), (13, 13)]


@pytest.mark.slow
def test_the_public_scores_are_by_name_and_refuse_what_they_cannot_do(network):
    first = split_names(network)[0]
    found = dci_jax.leakage_scores(network, (first,), num_images=1)
    assert list(found) == [first]
    assert found[first] > 20
    with pytest.raises(dci_jax.InputError, match="num_images is 0"):
        dci_jax.leakage_scores(network, num_images=0)
    with pytest.raises(dci_jax.InputError, match="nowhere"):
        dci_jax.leakage_scores(network, ("nowhere",))
    with pytest.raises(dci_jax.InputError, match="is a generator"):
        dci_jax.leakage_scores(dci_jax.load_network("sngan_narrow"))


def test_a_block_that_passes_no_gradient_sees_nothing():
    network = sequential("rounded", (8, 8, 3), [("a", lambda p, x: jax.numpy.round(x * p), jnp.ones(()))])
    assert information.receptive_fields(network) == [(0, 0)]
