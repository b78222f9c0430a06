"""Solve normal equations with a ridge chosen on validation images, by Cholesky factorisation in float64.

Normal equations on a GPU are solved there. Other accelerators have no such factorisation in float64: for them, and on
CPUs, LAPACK computes it.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from dci_jax.dci.normal_equations import Normal

# Candidate ridges, relative to each regressor's mean square; validation images select one.
RIDGES = (1e-7, 1e-5, 1e-3, 1e-1, 1.0, 10.0)
_SMALL = 1e-5
# Float64 matrices of all unknowns that a solve holds at a time, on the host and on a GPU, where nothing is done in place.
MATRICES, ON_GPU = 2, 5
_BLOCK = 1024  # rows that are mirrored at a time
_FLOOR = (
    1e-9  # of the largest mean square: channels that are dead but for rounding (1e-19) would make the matrix indefinite
)

Substitute = Callable[[np.ndarray | jax.Array], np.ndarray | jax.Array]


def best(
    normal: Normal, judge: Callable[[np.ndarray], float], worst: float, start: float, *, settled: bool = False
) -> tuple[np.ndarray | None, float]:
    """(solution [k^2 C, T], ridge): the ridge whose solution has the least error; None if none is below `worst`.

    The previous ridge is a good guess: search from `start` downwards, then upwards, while the error falls; and upwards past
    those that are not below `worst`, or leave a matrix that rounding made indefinite.

    Args:
      normal: the normal equations; on the host, their matrix is overwritten.
      judge: a solution's error on validation images.
      worst: the error of the zero map.
      start: one of `RIDGES`.
      settled: the regressions before this one chose `start`: search downwards only, and not below 1e-5, where errors no longer
        differ. Each ridge costs a factorisation.
    """
    errors, solution, ridge = {}, None, 0.0
    try:
        solve = scaled(normal)
    except np.linalg.LinAlgError:
        return None, 0.0

    def tried(i):
        nonlocal solution, ridge
        if i not in errors:
            try:
                new = solve(RIDGES[i])
                found = judge(new)
            except np.linalg.LinAlgError:
                found = math.inf
            if found < min([worst, *errors.values()]):
                solution, ridge = new, RIDGES[i]
            errors[i] = found if math.isfinite(found) else math.inf
        return errors[i]

    i = RIDGES.index(start)
    if settled and tried(i) < worst:
        while RIDGES[i] > _SMALL and tried(i) > tried(i - 1):
            i -= 1
        return solution, ridge
    while i > 0 and tried(i) > tried(i - 1):
        i -= 1
    while i + 1 < len(RIDGES) and (tried(i) > tried(i + 1) or not tried(i) < worst):
        i += 1
    return solution, ridge


def scaled(normal: Normal) -> Callable[[float], np.ndarray]:
    """A function from the ridge, relative to each regressor's own mean square, to the solution [k^2 C, T], float64.

    On the host the matrix of `normal` is overwritten.

    Raises:
      np.linalg.LinAlgError: the normal equations are not finite; raised by the returned function, the matrix is singular.
    """
    np_or_jnp, matrix = normal.matrix.__array_namespace__(), normal.matrix
    with jax.enable_x64(True):
        if not (np_or_jnp.isfinite(matrix).all() and np_or_jnp.isfinite(normal.cross).all()):
            raise np.linalg.LinAlgError("the normal equations are not finite")
        diagonal = matrix.diagonal()
        scale = np_or_jnp.where(diagonal > 0, diagonal + _FLOOR * diagonal.max(), np.inf) ** -0.5
        matrix *= scale[:, None]
        matrix *= scale
    factored = factored_on_host if isinstance(matrix, np.ndarray) else factored_on_device

    def solution(ridge):
        with jax.enable_x64(True):
            found = factored(matrix, ridge)(scale[:, None] * normal.cross)
            found *= scale[:, None]
            return np.asarray(found)

    return solution


def solve(normal: Normal, ridge: float) -> np.ndarray:
    """The ridge solution [k^2 C, T], float64; arguments and errors as for `scaled`."""
    return scaled(replace(normal, matrix=normal.matrix.copy()))(ridge)


def on_gpu(unknowns: int) -> bool:
    """Whether this process has a GPU with room for a solve with this many unknowns."""
    if jax.default_backend() != "gpu":
        return False
    memory = jax.local_devices()[0].memory_stats() or {}  # not every allocator reports them
    free = memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)
    return ON_GPU * 8 * unknowns**2 <= free // 2  # free memory is fragmented


def factored_on_host(matrix: np.ndarray, ridge: float) -> Substitute:
    """b -> matrix^-1 b with 1 + ridge for its diagonal, float64; raises LinAlgError where it is not positive definite.

    The factor is written over the upper triangle and the diagonal of the symmetric `matrix`: the lower one is all that the next
    call needs.
    """
    for first in range(0, len(matrix), _BLOCK):
        last = first + _BLOCK
        matrix[:first, first:last] = matrix[first:last, :first].T
        block = matrix[first:last, first:last]
        block[:] = np.tril(block) + np.tril(block, -1).T
    matrix[np.diag_indices_from(matrix)] = 1 + ridge  # at least: the floor adds to it
    # LAPACK counts columns first: the upper triangle is its lower one.
    factor = scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return lambda b: scipy.linalg.cho_solve(factor, b, check_finite=False)


def factored_on_device(matrix: jax.Array, ridge: float) -> Substitute:
    """The same on the matrix's device; in `jax.enable_x64`."""
    factor = _cholesky(matrix, ridge)
    if not bool(jnp.isfinite(factor.diagonal()).all()):
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return functools.partial(_substituted, factor)


@jax.jit
def _cholesky(matrix, ridge):
    matrix = jnp.fill_diagonal(matrix, 1 + ridge, inplace=False)
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


@jax.jit
def _substituted(factor, b):
    return jax.scipy.linalg.cho_solve((factor, True), b)
