"""Ridge regression of one image on the k x k neighbourhoods of another: normal equations, summed over pixels.

    argmin_A  sum over images and pixels  |A * u - t|^2  +  ridge |D A|^2

`*` is a convolution with zeros around the image, D scales every regressor to unit variance. With k x k
neighbourhoods the matrix of the normal equations has k^4 blocks of C x C, but except at the border a block depends
only on the *difference* of its two taps: (2k - 1)^2 blocks, half of them transposes of the others, all from one
product of channels per frequency (`dci.fft_correlation`). The border correction is what the taps of pixels
around the image would see: strips along its four sides, less the corners that two of them share; it is exact.
"""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.dci import fft_correlation
from dci_jax.runtime import sharding
from dci_jax.typing import Array

Sums = dict[str, np.ndarray | Array]  # as `moments` returns them
Batches = tuple[Float[Array, "_ H W _"], ...]

_EXACT = jax.lax.Precision.HIGHEST
_UNSEEN = (
    1e-3  # share of its sum of squares below which a tap's regressor is dropped: float32 sums keep three digits more
)


@functools.partial(jax.jit, static_argnums=0)
def moments(size: int, u: Batches, t: Batches) -> dict[str, Array]:
    """The sums over images and pixels that the normal equations are made of.

    Args:
      size: k, odd.
      u: regressors, batches of [B, H, W, C]. Several batches per call share fixed costs.
      t: targets, batches of [B, H, W, T].

    Returns:
      "shifts" [S, C, C], sum_q u(q + d) u(q)^T for each d of `half_plane`; "cross" [k^2 C, T]; for k > 1 also "strips" [4, k, rC, rC], products of the r = k // 2 rows along each side, and "corners"
      [4, r^2 C, r^2 C], of the pixels in each corner.
    """
    return sharding.summed(functools.partial(_moments, size), *u, *t)


def _moments(size, *batches):
    u, t = (jnp.concatenate(part) for part in (batches[: len(batches) // 2], batches[len(batches) // 2 :]))
    if size == 1:
        return {"shifts": _gram(u, u)[None], "cross": _gram(u, t)}
    r, reach, channels = size // 2, size - 1, u.shape[-1]
    shape = u.shape[1] + reach, u.shape[2] + reach
    spectra, targets = fft_correlation.spectrum(u, reach), fft_correlation.spectrum(t, reach)
    near, far = range(-r, r + 1), range(-reach, reach + 1)
    shifts = fft_correlation.autocorrelations(spectra, range(size), far, shape)
    cross = fft_correlation.correlations(spectra, targets, near, near, shape)
    turned = jnp.stack([u, u[:, ::-1], u[:, :, ::-1], u[:, ::-1, ::-1]])
    corners = _first(r, _first(r, turned).swapaxes(2, 3)).reshape(4, len(u), -1)
    return {
        "shifts": shifts.reshape(-1, channels, channels)[reach:],
        "cross": cross.reshape(-1, t.shape[-1]),
        "strips": jnp.concatenate([_strips(r, u), _strips(r, jnp.swapaxes(u, 1, 2))]),
        "corners": jax.vmap(_gram)(corners, corners),
    }


def half_plane(size: int) -> list[tuple[int, int]]:
    """The differences of two taps, one of each pair of opposites: (rows, columns)."""
    reach = range(1 - size, size)
    return [d for d in itertools.product(reach, reach) if d >= (0, 0)]


def taps(size: int) -> list[tuple[int, int]]:
    """The places of a k x k neighbourhood, (row, column) from 0."""
    return list(itertools.product(range(size), range(size)))


def flops(size: int, height: int, width: int, channels: int, targets: int) -> float:
    """FLOPs of `moments` for each image of a large batch, a multiply-add counted 2."""
    pairs = channels * (channels + targets)
    if size == 1:
        return 2.0 * height * width * pairs
    height_f, width_f = (height + size - 1) // 2 + 1, width + size - 1
    products = height_f * width_f * (6.0 * channels**2 + 8.0 * channels * targets)
    transforms = 4.0 * height_f * width * (height + 2 * width_f) * (channels + targets)
    strips = 2 * 6.0 * ((height + size - 1) // 2 + width_f // 2 + 2) * (size // 2 * channels) ** 2
    return products + transforms + strips


def entries(size: int, channels: int, targets: int) -> int:
    """How many numbers `moments` returns: what every device contributes to the all-reduce."""
    found = len(half_plane(size)) * channels**2 + size**2 * channels * targets
    r = size // 2
    return found + 4 * size * (r * channels) ** 2 + 4 * (r**2 * channels) ** 2


def _gram(a, b):
    a, b = (x.reshape(-1, x.shape[-1]) for x in (a, b))
    return jnp.einsum("nc,nd->cd", a, b, precision=_EXACT)


def _first(count, u):
    """The first rows of images [..., H, W, C], zeros where they have fewer."""
    missing = max(count - u.shape[-3], 0)
    return jnp.pad(u[..., :count, :, :], [(0, 0)] * (u.ndim - 3) + [(0, missing), (0, 0), (0, 0)])


def _strips(r, u):
    """Products of the r rows at the top, and at the bottom: [2, 2 r + 1, rC, rC]."""
    ends = _first(r, jnp.stack([u, u[:, ::-1]]))
    return jax.vmap(functools.partial(fft_correlation.along_rows, reach=2 * r))(ends)


@dataclass(frozen=True)
class Normal:
    """The normal equations of one regression, float64: NumPy arrays on the host, or JAX arrays on a GPU (in `jax.enable_x64`).

    Attributes:
      matrix: U^T U [k^2 C, k^2 C].
      cross: U^T t [k^2 C, T].
    """

    matrix: np.ndarray | Array
    cross: np.ndarray | Array


def assemble(size: int, sums: Sums) -> Normal:
    """Normal equations from the `moments` of all images, float64: on the host, whose sums are consumed, or on the device of JAX arrays."""
    if isinstance(sums["shifts"], jax.Array):
        with jax.enable_x64(True):
            return Normal(*_assembled(size, sums))
    if size == 1:  # in place, as such matrices are the largest
        return Normal(sums["shifts"][0], sums["cross"])
    shifts = sums["shifts"]
    channels, places = shifts.shape[-1], taps(size)
    by_difference = dict(zip(half_plane(size), shifts, strict=True))
    matrix = np.empty((len(places), channels, len(places), channels))
    for (i, s), (j, t) in itertools.product(enumerate(places), enumerate(places)):
        d = (t[0] - s[0], t[1] - s[1])
        opposite = (-d[0], -d[1])
        matrix[i, :, j] = by_difference[d].T if d >= (0, 0) else by_difference[opposite]
    strips, corners = _with_rows(size, sums)
    for i, j, place, opposite in itertools.chain(*_under_sides(size)):
        matrix[i, :, j] -= strips[place].T if opposite else strips[place]
    for i, j, place in itertools.chain(*_under_corners(size)):
        matrix[i, :, j] += corners[place]
    full = len(places) * channels
    matrix, cross = matrix.reshape(full, full), sums["cross"]
    # Regressors that a tap hardly sees, at the border, are rounding errors of a difference: dropped.
    alone = np.tile(np.diag(by_difference[0, 0]), len(places))
    unseen = np.diag(matrix) < _UNSEEN * alone
    matrix[unseen], matrix[:, unseen], cross[unseen] = 0, 0, 0
    return Normal(matrix, cross)


@functools.partial(jax.jit, static_argnums=0)
def _assembled(size, sums):
    shifts, places, known = sums["shifts"], taps(size), half_plane(size)
    channels = shifts.shape[-1]
    number = {d: at for at, d in enumerate(known)} | {
        (-y, -x): at + len(known) for at, (y, x) in enumerate(known) if y or x
    }
    # matrix[i, :, j] has the shift from tap i to tap j, transposed; matrices [C, C] of all pairs of taps.
    pairs = np.array([[number[s[0] - t[0], s[1] - t[1]] for t in places] for s in places])
    matrix = jnp.concatenate([shifts, jnp.swapaxes(shifts, 1, 2)])[pairs]
    strips, corners = _with_rows(size, sums)
    # No block occurs twice in a group, so the order of the sums is fixed.
    for group in _under_sides(size):
        i, j, place, opposite = zip(*group, strict=True)
        blocks = strips[_columns(place)]
        blocks = jnp.where(np.array(opposite)[:, None, None], jnp.swapaxes(blocks, 1, 2), blocks)
        matrix = matrix.at[np.array(i), np.array(j)].add(-blocks, unique_indices=True)
    for group in _under_corners(size):
        i, j, place = zip(*group, strict=True)
        matrix = matrix.at[np.array(i), np.array(j)].add(corners[_columns(place)], unique_indices=True)
    full = len(places) * channels
    matrix = matrix.transpose(0, 2, 1, 3).reshape(full, full)
    unseen = jnp.diag(matrix) < _UNSEEN * jnp.tile(jnp.diag(shifts[known.index((0, 0))]), len(places))
    matrix = jnp.where(unseen | unseen[:, None], 0, matrix)
    return matrix, jnp.where(unseen[:, None], 0, sums["cross"])


def _with_rows(size, sums):
    """(strips [4, k, r, r, C, C], corners [4, r, r, r, r, C, C]) of `moments`: by side or corner, shift, and rows."""
    if size == 1:
        return (), ()
    r, channels = size // 2, sums["shifts"].shape[-1]
    strips = sums["strips"].reshape(4, size, r, channels, r, channels).transpose(0, 1, 2, 4, 3, 5)
    corners = sums["corners"].reshape(4, r, r, channels, r, r, channels).transpose(0, 1, 2, 4, 5, 3, 6)
    return strips, corners


def _under_sides(size):
    """Corrections for pixels beside the image: groups of (tap, tap, place in the strips, transposed).

    Taps below the middle see the image from above it: a pixel `up` rows away sees row y - up of it.
    """
    r = size // 2
    for side, up in itertools.product(range(4), range(1, r + 1)):
        group, ahead = [], list(itertools.product(range(up, r + 1), range(size)))
        for (y, x), (z, w) in itertools.product(ahead, repeat=2):
            a, b = (y - up, z - up) if x >= w else (z - up, y - up)
            i, j = _turned(size, side, r + y, x), _turned(size, side, r + z, w)
            group.append((i, j, (side, abs(x - w), a, b), x < w))
        yield group


def _under_corners(size):
    """Corrections that two sides both subtract: groups of (tap, tap, place in the corners)."""
    r = size // 2
    for corner, up, left in itertools.product(range(4), range(1, r + 1), range(1, r + 1)):
        ahead = list(itertools.product(range(up, r + 1), range(left, r + 1)))
        yield [
            (
                _mirrored(size, corner, r + y, r + x),
                _mirrored(size, corner, r + z, r + w),
                (corner, x - left, y - up, w - left, z - up),
            )
            for (y, x), (z, w) in itertools.product(ahead, repeat=2)
        ]


def _columns(places):
    """Index arrays for a list of places."""
    return tuple(np.array(places).T)


def _turned(size, side, y, x):
    """The number of the tap that is (y, x) in the image turned by `_sides`."""
    y = size - 1 - y if side in (1, 3) else y
    return y * size + x if side < 2 else x * size + y


def _mirrored(size, corner, y, x):
    """The number of the tap that is (y, x) in the image whose corner 0 ... 3 was brought to the top left."""
    y, x = size - 1 - y if corner % 2 else y, size - 1 - x if corner > 1 else x
    return y * size + x


def added(total: Sums | None, new: Sums) -> Sums:
    """Add `moments` of more images in float64, on their device; `total` is consumed."""
    with jax.enable_x64(True):
        if total is None:
            return {name: value.astype(np.float64) for name, value in new.items()}
        for name, value in new.items():
            total[name] += value
        return total


def finite(sums: Sums) -> bool:
    """Whether no sum overflowed."""
    with jax.enable_x64(True):
        return all(bool(v.__array_namespace__().isfinite(v).all()) for v in sums.values())
