import jax
import numpy as np
import pytest

from dci_jax.dci import normal_equations, ridge


def problem(size, seed=0, height=7, width=5):
    """(u, t, every neighbourhood of u as a row): random images with zeros around them."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(3, height, width, 4)).astype(np.float32)
    t = rng.normal(size=(3, height, width, 2)).astype(np.float32)
    r = size // 2
    padded = np.pad(u, ((0, 0), (r, r), (r, r), (0, 0)))
    rows = [padded[:, y : y + height, x : x + width] for y in range(size) for x in range(size)]
    return u, t, np.concatenate(rows, -1).reshape(-1, size**2 * 4).astype(float)


def sums(size, u, t):
    found = normal_equations.moments(size, (u[:1], u[1:]), (t[:1], t[1:]))
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(7, 5), (1, 4), (2, 2)])
def test_one_product_for_each_shift_gives_the_matrix_of_all_neighbourhoods(size, height, width):
    u, t, rows = problem(size, height=height, width=width)
    normal = normal_equations.assemble(size, sums(size, u, t))
    np.testing.assert_allclose(normal.matrix, rows.T @ rows, atol=1e-4)
    np.testing.assert_allclose(normal.cross, rows.T @ t.reshape(-1, 2), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize(("height", "width"), [(9, 8), (1, 4), (2, 2)])
def test_a_device_adds_up_and_assembles_what_the_host_does_to_the_last_digit(size, height, width):
    u, t, _ = problem(size, height=height, width=width)
    some = [normal_equations.moments(size, (u[part],), (t[part],)) for part in (slice(2), slice(2, 3))]
    there, here = None, None
    for found in some:
        there = normal_equations.added(there, found)
        here = normal_equations.added(here, jax.device_get(found))
    expected, normal = normal_equations.assemble(size, here), normal_equations.assemble(size, there)
    for name in ("matrix", "cross"):
        assert isinstance(getattr(normal, name), jax.Array)
        np.testing.assert_array_equal(getattr(normal, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("where", [np.asarray, jax.device_put])
def test_sums_that_overflow_are_noticed(where):
    sums = {"shifts": where(np.float32([1.0])), "cross": where(np.float32([2.0]))}
    total = normal_equations.added(None, sums)
    assert normal_equations.finite(total)
    assert not normal_equations.finite(normal_equations.added(total, {k: v + np.inf for k, v in sums.items()}))


def test_the_solution_is_numpys():
    u, t, rows = problem(3)
    normal = normal_equations.assemble(3, sums(3, u, t))
    solution = ridge.solve(normal, 1e-9)
    expected, *_ = np.linalg.lstsq(rows, t.reshape(-1, 2), rcond=None)
    np.testing.assert_allclose(solution, expected, atol=1e-3)


def test_the_ridge_weighs_every_regressor_by_its_own_scale():
    u, t, _ = problem(1)
    small = np.float32([1.0, 0.1, 1.0, 10.0])
    plain, scaled = (ridge.solve(normal_equations.assemble(1, sums(1, a, t)), 0.1) for a in (u, u * small))
    np.testing.assert_allclose(scaled * small[:, None], plain, rtol=1e-3, atol=1e-6)


def test_a_regressor_that_is_zero_or_a_copy_is_no_harm():
    u, t, _ = problem(3)
    u[..., 1], u[..., 2] = 0, u[..., 0]
    solution = ridge.solve(normal_equations.assemble(3, sums(3, u, t)), 1e-5)
    assert np.isfinite(solution).all()
    assert (solution.reshape(9, 4, 2)[:, 1] == 0).all()


def test_a_channel_that_is_dead_but_for_rounding_does_not_spoil_the_solve():
    # Seen in a ResNet-18 at 224 px: a ReLU's output of 1e-19, whose squares underflow in the sums.
    u, t, rows = problem(3)
    u[..., 1] *= 1e-19
    normal = normal_equations.assemble(3, sums(3, u, t))
    solution = ridge.solve(normal, 1e-7)
    few = np.delete(rows, range(1, 36, 4), 1)
    expected, *_ = np.linalg.lstsq(few, t.reshape(-1, 2), rcond=None)
    fit, found = (np.sum((a @ b - t.reshape(-1, 2)) ** 2) for a, b in ((few, expected), (rows, solution)))
    assert found == pytest.approx(fit, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sums_that_are_not_finite_are_refused(bad):
    u, t, _ = problem(1)
    u[0, 0, 0, 0] = bad
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        ridge.solve(normal_equations.assemble(1, sums(1, u, t)), 0.1)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_a_device_adds_to_the_sums_of_all_is_counted(size):
    u, t, _ = problem(size)
    assert sum(v.size for v in sums(size, u, t).values()) == normal_equations.entries(size, u.shape[-1], t.shape[-1])
