"""The solution, where it is computed, and which ridge is taken."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.dci import ridge
from dci_jax.dci.normal_equations import Normal


def normal(rows, targets):
    return Normal(rows.T @ rows, rows.T @ targets)


def judging(rows, targets):
    """(a solution's error on these rows, that of the zero map)."""
    return lambda solution: float(np.sum((rows @ solution - targets) ** 2)), float(np.sum(targets**2))


def regression(count, noise, seed=0, regressors=6):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, regressors))
    slopes = np.random.default_rng(9).standard_normal((regressors, 2))
    return rows, rows @ slopes + noise * rng.standard_normal((count, 2))


def unit(regressors=6):
    """A matrix with ones on its diagonal."""
    rows, _ = regression(50, 0.1, regressors=regressors)
    rows /= np.linalg.norm(rows, axis=0)
    return rows.T @ rows


@pytest.mark.parametrize(
    ("factored", "put"), [(ridge.factored_on_host, np.asarray), (ridge.factored_on_device, jax.device_put)]
)
def test_host_and_device_solve_alike_in_float64(factored, put):
    wanted = np.arange(12.0).reshape(6, 2)
    with jax.enable_x64(True):
        matrix = put(unit())
        for some in (0.3, 2.0):  # the second finds the first one's factor in the matrix
            found = np.asarray(factored(matrix, some)(put(wanted)))
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, np.linalg.solve(unit() + some * np.eye(6), wanted), rtol=1e-12)


def test_the_next_ridge_finds_a_matrix_of_several_blocks_whole(monkeypatch):
    monkeypatch.setattr(ridge, "_BLOCK", 4)
    matrix, wanted = unit(), np.ones((6, 1))
    for some in (1.0, 0.1):
        expected = np.linalg.solve(unit() + some * np.eye(6), wanted)
        np.testing.assert_allclose(ridge.factored_on_host(matrix, some)(wanted), expected, rtol=1e-12)


def test_the_solution_is_that_of_the_ridge_that_is_returned():
    rows, apart = regression(8, 3.0, seed=1), judging(*regression(4000, 0.0, seed=2))
    for start in ridge.RIDGES:
        solution, chosen = ridge.best(normal(*rows), *apart, start)
        np.testing.assert_allclose(solution, ridge.solve(normal(*rows), chosen), err_msg=str(start))


@pytest.mark.parametrize(
    ("factored", "put"), [(ridge.factored_on_host, np.asarray), (ridge.factored_on_device, jax.device_put)]
)
def test_a_matrix_that_is_not_positive_definite_is_said_to_be(factored, put):
    with jax.enable_x64(True), pytest.raises(np.linalg.LinAlgError):
        factored(put(np.array([[1.0, 2.0], [2.0, 1.0]])), 0.0)


def test_normal_equations_that_lie_on_a_device_are_solved_there(monkeypatch):
    here, apart = normal(*regression(50, 0.1)), judging(*regression(50, 0.1, seed=1))
    with jax.enable_x64(True):
        there = Normal(jnp.array(here.matrix), jnp.array(here.cross))
    expected, chosen = ridge.best(here, *apart, 1e-3)
    monkeypatch.setattr(ridge, "factored_on_host", None)
    solution, ridge_there = ridge.best(there, *apart, 1e-3)
    np.testing.assert_allclose(solution, expected, rtol=1e-12)
    assert ridge_there == chosen


def test_a_gpu_solves_what_half_of_its_free_memory_holds(monkeypatch):
    assert not ridge.on_gpu(1)
    known = [{"bytes_limit": 20_000_000, "bytes_in_use": 10_400_000}]
    gpu = types.SimpleNamespace(memory_stats=lambda: known[-1])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    most = 346  # ridge.ON_GPU float64 matrices of 346 unknowns are 4,788,640 bytes
    assert ridge.on_gpu(most)
    assert not ridge.on_gpu(most + 1)
    known.append(None)  # of an allocator that does not count
    assert not ridge.on_gpu(most)


def test_noise_asks_for_a_larger_ridge_and_clean_data_for_the_least():
    apart = judging(*regression(4000, 0.0, seed=2))
    clean, noisy = (ridge.best(normal(*regression(8, noise, seed=1)), *apart, 1e-3) for noise in (0.0, 3.0))
    assert clean[1] == min(ridge.RIDGES)
    assert noisy[1] >= 1e-1
    np.testing.assert_allclose(noisy[0], ridge.solve(normal(*regression(8, 3.0, seed=1)), noisy[1]))


def test_no_map_is_taken_where_none_is_better_than_no_map():
    rows, targets = regression(50, 0.0, seed=1)
    others, wanted = regression(50, 0.0, seed=2)
    assert ridge.best(normal(rows, targets), *judging(others, -wanted), 1e-3) == (None, 0.0)


def test_no_map_is_taken_where_the_sums_are_not_finite():
    rows, targets = regression(50, 0.0)
    broken = Normal(rows.T @ rows * np.inf, rows.T @ targets)
    assert ridge.best(broken, *judging(rows, targets), 1e-3) == (None, 0.0)


@pytest.mark.parametrize("start", ridge.RIDGES)
def test_ridges_that_rounding_makes_useless_do_not_end_the_search(start):
    """Two equal regressors whose matrix rounding made indefinite: only ridges of 1e-3 and more solve it."""
    rows, targets = regression(400, 0.1)
    train, (others, wanted) = normal(np.hstack([rows, rows[:, :1]]), targets), regression(400, 0.1, seed=3)
    scale = np.sqrt(np.diag(train.matrix))
    train.matrix[0, 6] += 2e-5 * scale[0] * scale[6]
    train.matrix[6, 0] += 2e-5 * scale[0] * scale[6]
    with pytest.raises(np.linalg.LinAlgError):
        ridge.solve(train, 1e-5)
    solution, chosen = ridge.best(train, *judging(np.hstack([others, others[:, :1]]), wanted), start)
    assert solution is not None
    assert chosen == 1e-3


def test_a_settled_ridge_is_sought_downwards_only_unless_it_is_no_better_than_zero():
    rows, wanted = regression(8, 0.5, seed=1)
    judge, worst = judging(*regression(4000, 0.0, seed=2))
    tried = []

    def counted(solution):
        tried.append(judge(solution))
        return tried[-1]

    def found(start, worst):
        tried.clear()
        return ridge.best(normal(rows, wanted), counted, worst, start, settled=True)[1], len(tried)

    _, best = ridge.best(normal(rows, wanted), judge, worst, 1e-5)
    assert best == 0.1
    assert found(1e-5, worst) == (1e-5, 1)
    assert found(1e-3, worst) == (1e-3, 2)
    assert found(1.0, worst) == (0.1, 3)
    found(1e-5, worst)
    assert found(1e-5, tried[0])[0] == best
