"""Ridge regression of one image on the k x k neighbourhoods of another: normal equations, added up over pixels.

    argmin_A  sum over images and pixels  |A * u - t|^2  +  ridge |D A|^2

`*` is a convolution with zeros around the image, D scales every regressor to unit variance. With k x k
neighbourhoods the matrix of the normal equations has k^4 blocks of C x C, but for the border a block depends on
the *difference* of its two taps only: (2k - 1)^2 products, half of them transposes of the others. What the
border takes away is what the taps of a ring around the image see, and is subtracted exactly.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

_EXACT = jax.lax.Precision.HIGHEST
_UNSEEN = (
    1e-3  # share of its sum of squares below which a tap's regressor is dropped: float32 sums keep three digits more
)
_FLOOR = (
    1e-9  # of the largest mean square: channels that are dead but for rounding (1e-19) would make the matrix indefinite
)


@functools.partial(jax.jit, static_argnums=0)
def moments(size: int, u: Float[Array, "B H W C"], t: Float[Array, "B H W T"]) -> dict[str, Array]:
    """The sums over one batch's images and pixels that the normal equations are made of.

    Args:
      size: k, odd.
      u: regressors [B, H, W, C].
      t: targets [B, H, W, T].

    Returns:
      "shifts" [S, C, C], sum_q u(q + d) u(q)^T for each d of `half_plane`; "ring" [4, E, E], what a ring of
      pixels around the image sees of it, for its four sides; "cross" [k^2 C, T]; "energies" [T, T], sum of t t^T.
    """
    r, reach = size // 2, size - 1
    shifts = _correlate(u, u, ((0, reach), (reach, reach)))
    channels = u.shape[-1]
    found = {
        "shifts": shifts.reshape(-1, channels, channels)[reach:],
        "cross": _correlate(u, t, ((r, r), (r, r))).reshape(-1, t.shape[-1]),
        "energies": jnp.einsum("bhwc,bhwd->cd", t, t, precision=_EXACT),
    }
    if r:
        found["ring"] = jnp.stack([_ring(size, side) for side in _sides(u)])
    return found


def half_plane(size: int) -> list[tuple[int, int]]:
    """The differences of two taps, one of each pair of opposites: (rows, columns)."""
    reach = range(1 - size, size)
    return [d for d in itertools.product(reach, reach) if d >= (0, 0)]


def taps(size: int) -> list[tuple[int, int]]:
    """The places of a k x k neighbourhood, (row, column) from 0."""
    return list(itertools.product(range(size), range(size)))


def _correlate(a, b, padding):
    """[Y, X, A, B]: sum_q a(q + d) b(q)^T for every shift d: what a convolution's weight gradient is made of."""
    found = jax.lax.conv_general_dilated(
        a, b, (1, 1), padding, dimension_numbers=("CHWN", "IHWO", "HWNC"), precision=_EXACT
    )
    return found


def _sides(u):
    """The image turned so that each of its sides is once at the top: top, bottom (with corners), left, right."""
    r = jnp.swapaxes(u, 1, 2)
    return (u, True), (u[:, ::-1], True), (r, False), (r[:, ::-1], False)


def _ring(size, side):
    """Gram matrix of what pixels above the image see of it: taps (row below, column), k // 2 rows of k."""
    (u, corners), r = side, size // 2
    edge = jnp.pad(u[:, :r], ((0, 0), (r, max(r - u.shape[1], 0)), (2 * r, 2 * r), (0, 0)))
    start, length = (0, u.shape[2] + 2 * r) if corners else (r, u.shape[2])
    seen = [
        edge[:, 1 + y : 1 + y + r, start + x : start + x + length] for y, x in itertools.product(range(r), range(size))
    ]
    seen = jnp.concatenate(seen, -1)
    return jnp.einsum("bhwc,bhwd->cd", seen, seen, precision=_EXACT)


@dataclass(frozen=True)
class Normal:
    """The normal equations of one regression, float64 on the host.

    Attributes:
      matrix: U^T U [k^2 C, k^2 C].
      cross: U^T t [k^2 C, T].
      energies: sums of t t^T [T, T].
    """

    matrix: np.ndarray
    cross: np.ndarray
    energies: np.ndarray

    @property
    def energy(self) -> float:
        """Sum of |t|^2: the error of no map at all."""
        return float(np.trace(self.energies))


def assemble(size: int, sums: dict[str, np.ndarray]) -> Normal:
    """`moments` of all images as normal equations."""
    shifts = sums["shifts"]
    channels, places = shifts.shape[-1], taps(size)
    by_difference = dict(zip(half_plane(size), shifts, strict=True))
    matrix = np.empty((len(places), channels, len(places), channels))
    for (i, s), (j, t) in itertools.product(enumerate(places), enumerate(places)):
        d = (t[0] - s[0], t[1] - s[1])
        opposite = (-d[0], -d[1])
        matrix[i, :, j] = by_difference[d].T if d >= (0, 0) else by_difference[opposite]
    r = size // 2
    for side, gram in enumerate(sums.get("ring", ())):
        seen = [_turned(size, side, r + 1 + y, x) for y, x in itertools.product(range(r), range(size))]
        gram = gram.reshape(len(seen), channels, len(seen), channels)
        for (a, i), (b, j) in itertools.product(enumerate(seen), enumerate(seen)):
            matrix[i, :, j] -= gram[a, :, b]
    full = len(places) * channels
    matrix, cross = matrix.reshape(full, full), sums["cross"].copy()
    # What a tap hardly sees, because it lies at the border, is the rounding of a difference: dropped.
    alone = np.tile(np.diag(by_difference[0, 0]), len(places))
    unseen = np.diag(matrix) < _UNSEEN * alone
    matrix[unseen], matrix[:, unseen], cross[unseen] = 0, 0, 0
    return Normal(matrix, cross, sums["energies"])


def _turned(size, side, y, x):
    """The number of the tap that is (y, x) in the image turned by `_sides`."""
    y = size - 1 - y if side in (1, 3) else y
    return y * size + x if side < 2 else x * size + y


def factored(normal: Normal, ridge: float) -> Callable[[np.ndarray], np.ndarray]:
    """The ridge solution as a function of `Normal.cross` [k^2 C, T], of any targets of the same regressors; float64.

    Args:
      normal: of the training images.
      ridge: relative to each regressor's own mean square.

    Raises:
      np.linalg.LinAlgError: the matrix is singular or not finite.
    """
    diagonal = np.diag(normal.matrix)
    if not (np.isfinite(normal.matrix).all() and np.isfinite(normal.cross).all()):
        raise np.linalg.LinAlgError("the normal equations are not finite")
    floored = np.where(diagonal > 0, diagonal + _FLOOR * diagonal.max(), np.inf)
    scale = floored**-0.5
    matrix = normal.matrix * scale[:, None]
    matrix *= scale
    matrix[np.diag_indices_from(matrix)] = 1 + ridge  # at least: the floor adds to it
    factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return lambda cross: scale[:, None] * scipy.linalg.cho_solve(factor, scale[:, None] * cross)


def solve(normal: Normal, ridge: float) -> np.ndarray:
    """The ridge solution [k^2 C, T], float64; arguments and errors as of `factored`."""
    return factored(normal, ridge)(normal.cross)


def sketched(normal: Normal, count: int) -> Normal:
    """The same regression of `count` random mixtures of its targets, whose mean error is that of all but for chance."""
    targets = normal.cross.shape[1]
    if targets <= count:
        return normal
    mixed = np.random.default_rng(0).standard_normal((targets, count)) / np.sqrt(count)
    return Normal(normal.matrix, normal.cross @ mixed, mixed.T @ normal.energies @ mixed)


def error(normal: Normal, solution: np.ndarray) -> float:
    """Sum of |A * u - t|^2 over the images of `normal`, which need not be those that A was solved on."""
    quadratic = np.sum(solution * (normal.matrix @ solution))
    return float(quadratic - 2 * np.sum(solution * normal.cross) + normal.energy)
