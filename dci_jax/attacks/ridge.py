"""The ridge solution of normal equations, and the ridge that held-out images prefer: by Cholesky factors in float64.

On a GPU they are its own. Other accelerators have no such factorisation in float64: there, and on CPUs, it is LAPACK's.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from dci_jax.attacks.least_squares import Normal, error, sketched

# What a map may be regularised with, relative to each regressor's mean square: held-out images choose.
RIDGES = (1e-7, 1e-5, 1e-3, 1e-1, 1.0, 10.0)
MATRICES = 6  # float64 ones of all unknowns that a solve holds at a time
SKETCH = 256  # random mixtures of the targets that the choice looks at: wide blocks have thousands
_FLOOR = (
    1e-9  # of the largest mean square: channels that are dead but for rounding (1e-19) would make the matrix indefinite
)

Solve = Callable[[np.ndarray], np.ndarray]


def best(train: Normal, apart: Normal, start: float) -> tuple[np.ndarray | None, float]:
    """(solution [k^2 C, T], ridge) of `train` with the ridge that is best on `apart`; None where none is better than no map.

    The ridge before is a good guess: from `start` downwards, then upwards, as long as it gets better; and upwards past those
    that are worse than no map, or leave a matrix that rounding made indefinite.
    """
    few, judge, errors, chosen = sketched(train, SKETCH), sketched(apart, SKETCH), {}, (None, 0.0)
    try:
        factor = scaled(train)
    except np.linalg.LinAlgError:
        return chosen

    def tried(i):
        nonlocal chosen
        if i not in errors:
            try:
                solve = factor(RIDGES[i])
                found = error(judge, solve(few.cross))
            except np.linalg.LinAlgError:
                found = math.inf
            if found < min([judge.energy, *errors.values()]):
                chosen = solve, RIDGES[i]
            errors[i] = found
        return errors[i]

    i = RIDGES.index(start)
    while i > 0 and tried(i - 1) < tried(i):
        i -= 1
    while i + 1 < len(RIDGES) and (tried(i + 1) < tried(i) or not tried(i) < judge.energy):
        i += 1
    solve, ridge = chosen
    return solve and solve(train.cross), ridge


def scaled(normal: Normal) -> Callable[[float], Solve]:
    """A function from the ridge, relative to each regressor's own mean square, to the solution.

    The solution is a function in turn, of `Normal.cross` [k^2 C, T] of any targets of the same regressors; float64.

    Raises:
      np.linalg.LinAlgError: the normal equations are not finite; by the function, the matrix is singular.
    """
    diagonal = np.diag(normal.matrix)
    if not (np.isfinite(normal.matrix).all() and np.isfinite(normal.cross).all()):
        raise np.linalg.LinAlgError("the normal equations are not finite")
    scale = np.where(diagonal > 0, diagonal + _FLOOR * diagonal.max(), np.inf) ** -0.5
    matrix = normal.matrix * scale[:, None]
    matrix *= scale
    matrix[np.diag_indices_from(matrix)] = 1  # at least: the floor adds to it
    if jax.default_backend() == "gpu":
        with jax.enable_x64(True):
            factor = functools.partial(factored_on_device, jax.device_put(matrix, jax.local_devices()[0]))
    else:
        factor = functools.partial(factored_on_host, matrix)

    def solution(ridge):
        substitute = factor(ridge)
        return lambda cross: scale[:, None] * substitute(scale[:, None] * cross)

    return solution


def solve(normal: Normal, ridge: float) -> np.ndarray:
    """The ridge solution [k^2 C, T], float64; arguments and errors as of `scaled`."""
    return scaled(normal)(ridge)(normal.cross)


def factored_on_host(matrix: np.ndarray, ridge: float) -> Solve:
    """b -> (matrix + ridge)^-1 b, float64; raises LinAlgError where the matrix is not positive definite."""
    copy = matrix.T.copy(order="F")
    copy[np.diag_indices_from(copy)] += ridge
    factor = scipy.linalg.cho_factor(copy, lower=True, overwrite_a=True, check_finite=False)
    return functools.partial(scipy.linalg.cho_solve, factor, check_finite=False)


def factored_on_device(matrix: jax.Array, ridge: float) -> Solve:
    """The same where the matrix lies."""
    with jax.enable_x64(True):
        factor = _cholesky(matrix, ridge)
        if not bool(jnp.isfinite(jnp.diag(factor)).all()):
            raise np.linalg.LinAlgError("the matrix is not positive definite")

    def substitute(b):
        with jax.enable_x64(True):
            return np.asarray(_substituted(factor, jax.device_put(b, factor.sharding)))

    return substitute


@jax.jit
def _cholesky(matrix, ridge):
    return jax.lax.linalg.cholesky(matrix + ridge * jnp.eye(len(matrix), dtype=matrix.dtype), symmetrize_input=False)


@jax.jit
def _substituted(factor, b):
    return jax.scipy.linalg.cho_solve((factor, True), b)
