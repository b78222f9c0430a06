"""Errors are weighted by their inverse covariance; the weights are written before the maps that need them."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.dci import inverter, precision, solve_chain, solve_inverter
from dci_jax.dci.chain import load_chain
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.pieces import sequential

INPUTS = Prior((), (("dead_leaves", 1.0),), (8, 8, 3))
KEY = jax.random.key(0)
SETTINGS = dict(
    num_images=16,
    num_validation=8,
    batch=8,
    num_corrections=1,
    kernel_size=1,
    max_unknowns=(1000, 1000),
    samples_per_unknown=10000,
)


@pytest.fixture(scope="module")
def two_blocks():
    """Two linear blocks; the first is a change of colours, the second gives channel 0 a hundred times the weight of the others."""
    mixed, scale = np.float32([[1, 0.2, 0], [0, 1, 0.2], [0.2, 0, 1]]), np.float32([100, 1, 1])
    pieces = [("mixed", lambda p, x: x @ p, mixed), ("scaled", lambda p, x: x * p, scale)]
    return sequential("two_blocks", (8, 8, 3), pieces)


def errors_of(variances, count=4):
    """Images [count, 8, 8, 3] of independent errors with these variances."""
    return jax.random.normal(KEY, (count, 8, 8, 3)) * jnp.sqrt(jnp.asarray(variances))


def test_independent_errors_are_weighted_by_one_over_their_variances(two_blocks):
    g = inverter.inverter_spec(two_blocks, 1)
    x = jnp.full((4, 8, 8, 3), 0.5)
    f = networks.run(two_blocks, x, 1, 2) + errors_of([1.0, 4.0, 16.0])
    weights, beyond = precision.of_errors(g, two_blocks, [f] * 2, [f] * 2, [x] * 2)
    assert beyond is None
    assert np.trace(weights) == pytest.approx(3, rel=1e-5)
    inverse = 1 / (np.array([1.0, 4.0, 16.0]) + precision.RIDGE * 7)
    np.testing.assert_allclose(np.diag(weights), 3 * inverse / inverse.sum(), rtol=0.3)
    assert np.abs(weights - np.diag(np.diag(weights))).max() < 0.3


def test_before_the_split_both_errors_are_weighted(two_blocks):
    g = inverter.inverter_spec(two_blocks, 0, 2)
    x = jnp.full((4, 8, 8, 3), 0.5)
    f = networks.run(two_blocks, x, 0, 1) + errors_of([1.0, 1.0, 1.0])
    seen = networks.run(two_blocks, f, 1, 2)
    here, beyond = precision.of_errors(g, two_blocks, [seen], [f], [x])
    assert np.diag(here).min() > 0.5
    assert beyond[0, 0] < 0.05 * beyond[1, 1]


def test_no_errors_are_not_weighted(two_blocks):
    g = inverter.inverter_spec(two_blocks, 1)
    x = jnp.full((2, 8, 8, 3), 0.5)
    f = networks.run(two_blocks, x, 1, 2)
    np.testing.assert_array_equal(precision.of_errors(g, two_blocks, [f], [f], [x])[0], np.eye(3))


def test_more_channels_than_a_matrix_should_have_are_left_alone(two_blocks, monkeypatch):
    g = inverter.inverter_spec(two_blocks, 0, 2)
    assert precision.channels(g, two_blocks) == (3, 3)
    monkeypatch.setattr(precision, "CHANNELS", 2)
    assert precision.channels(g, two_blocks) == (0, 0)


def test_a_weighted_error_is_routed_back(two_blocks):
    g = inverter.inverter_spec(two_blocks, 1)
    x, weights = jnp.full((2, 8, 8, 3), 0.5), jnp.diag(jnp.float32([0.01, 1.0, 2.0]))
    f = networks.run(two_blocks, x, 1, 2) + errors_of([1.0, 1.0, 1.0], 2)
    plain = inverter.regressors(g, two_blocks, f, f, x)
    found = inverter.regressors(g, two_blocks, f, f, x, (weights, None))
    np.testing.assert_allclose(found[..., 6:9], plain[..., 6:9] * jnp.float32([0.01, 1, 2]), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[..., :6], plain[..., :6])


@pytest.fixture(scope="module")
def solved(two_blocks, tmp_path_factory):
    """(chain, folder) of the second block's split."""
    folder = tmp_path_factory.mktemp("precision")
    return solve_chain.dci(two_blocks, INPUTS, ("scaled",), KEY, folder, **SETTINGS)["scaled"], folder


def test_weights_are_read_again_with_the_maps(two_blocks, solved):
    chain, folder = solved
    again = solve_chain.dci(two_blocks, INPUTS, ("scaled",), KEY, folder, **SETTINGS)["scaled"]
    for one, other in zip(chain.inverters, again.inverters, strict=True):
        assert [p is None for p in one.precisions] == [p is None for p in other.precisions]
        jax.tree.map(np.testing.assert_array_equal, one.precisions, other.precisions)
    x = batches(INPUTS, KEY, 2)(0)
    features = networks.features_at(two_blocks, "scaled", x)
    np.testing.assert_array_equal(chain(features), again(features))


@pytest.mark.parametrize("finished", [True, False])
def test_maps_without_their_weights_are_refused(two_blocks, solved, tmp_path, finished):
    shutil.copytree(solved[1], tmp_path / "dci")
    (file,) = (tmp_path / "dci").glob("*/001/precisions.npz")
    file.unlink()
    if not finished:
        (file.parent / "taken.npz").unlink()
    with pytest.raises(InputError, match=rf"{file} is missing: the maps beside it are of another version; delete "):
        solve_chain.dci(two_blocks, INPUTS, ("scaled",), KEY, tmp_path / "dci", **SETTINGS)


def test_weights_of_another_size_are_refused(two_blocks, solved, tmp_path):
    shutil.copytree(solved[1], tmp_path / "dci")
    (file,) = (tmp_path / "dci").glob("*/001/precisions.npz")
    np.savez(file, block=np.eye(4, dtype=np.float32))
    with pytest.raises(InputError, match=r"precisions\.npz"):
        solve_chain.dci(two_blocks, INPUTS, ("scaled",), KEY, tmp_path / "dci", **SETTINGS)


def test_a_chain_whose_corrections_were_rejected_is_saved_without_weights(two_blocks, tmp_path, monkeypatch):
    solve = solve_inverter._solve
    rejected = lambda places, size, shape, *given, **label: (  # noqa: E731
        (None, 0.0) if shape[0] > 4 else solve(places, size, shape, *given, **label)
    )
    monkeypatch.setattr(solve_inverter, "_solve", rejected)
    chain = solve_chain.dci(two_blocks, INPUTS, ("scaled",), KEY, None, **SETTINGS)["scaled"]
    assert [len(each.kernels) for each in chain.inverters] == [1, 1]
    chain.save(tmp_path / "chain.safetensors")
    again = load_chain(tmp_path / "chain.safetensors", two_blocks)
    assert [each.precisions for each in again.inverters] == [(None, None)] * 2
