"""Ridge regression of one image on the k x k neighbourhoods of another: normal equations, added up over pixels.

    argmin_A  sum over images and pixels  |A * u - t|^2  +  ridge |D A|^2

`*` is a convolution with zeros around the image, D scales every regressor to unit variance. With k x k
neighbourhoods the matrix of the normal equations has k^4 blocks of C x C, but for the border a block depends on
the *difference* of its two taps only: (2k - 1)^2 blocks, half of them transposes of the others, all of them from one
product of channels for each frequency (`attacks.correlation`). What the border takes away is what the taps of pixels
around the image would see: strips along its four sides, less the corners that two of them share; subtracted exactly.
"""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dci_jax.attacks import correlation
from dci_jax.runtime import parallel

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
      u: regressors, batches of [B, H, W, C]. What is done once for all of them is less with several together.
      t: targets, batches of [B, H, W, T].

    Returns:
      "shifts" [S, C, C], sum_q u(q + d) u(q)^T for each d of `half_plane`; "cross" [k^2 C, T]; "energies" [T, T], sum
      of t t^T; for k > 1 also "strips" [4, k, rC, rC], products of the r = k // 2 rows along each side, and "corners"
      [4, r^2 C, r^2 C], of the pixels in each corner.
    """
    return parallel.summed(functools.partial(_moments, size), *u, *t)


def _moments(size, *batches):
    u, t = (jnp.concatenate(part) for part in (batches[: len(batches) // 2], batches[len(batches) // 2 :]))
    found = {"energies": _gram(t, t)}
    if size == 1:
        return found | {"shifts": _gram(u, u)[None], "cross": _gram(u, t)}
    r, reach, channels = size // 2, size - 1, u.shape[-1]
    shape = u.shape[1] + reach, u.shape[2] + reach
    spectra, targets = correlation.spectrum(u, reach), correlation.spectrum(t, reach)
    near, far = range(-r, r + 1), range(-reach, reach + 1)
    shifts = correlation.correlations(spectra, spectra, range(size), far, shape)
    cross = correlation.correlations(spectra, targets, near, near, shape)
    turned = u, u[:, ::-1], u[:, :, ::-1], u[:, ::-1, ::-1]
    corners = [_first(r, jnp.swapaxes(_first(r, each), 1, 2)).reshape(len(u), -1) for each in turned]
    return found | {
        "shifts": shifts.reshape(-1, channels, channels)[reach:],
        "cross": cross.reshape(-1, t.shape[-1]),
        "strips": jnp.stack([correlation.along_rows(_first(r, side), reach) for side in _sides(u)]),
        "corners": jnp.stack([_gram(pixels, pixels) for pixels in corners]),
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
    products = 8.0 * height_f * width_f * pairs
    transforms = 4.0 * height_f * width * (height + 2 * width_f) * (channels + targets)
    strips = 2 * 8.0 * ((height + size - 1) // 2 + width_f // 2 + 2) * (size // 2 * channels) ** 2
    return products + transforms + strips


def entries(size: int, channels: int, targets: int) -> int:
    """How many numbers `moments` returns: what every device adds to the sum of all."""
    found = len(half_plane(size)) * channels**2 + size**2 * channels * targets + targets**2
    r = size // 2
    return found + 4 * size * (r * channels) ** 2 + 4 * (r**2 * channels) ** 2


def _gram(a, b):
    a, b = (x.reshape(-1, x.shape[-1]) for x in (a, b))
    return jnp.einsum("nc,nd->cd", a, b, precision=_EXACT)


def _first(count, u):
    """The first rows, zeros where the image has fewer."""
    return jnp.pad(u[:, :count], [(0, 0), (0, max(count - u.shape[1], 0)), (0, 0), (0, 0)])


def _sides(u):
    """The image turned so that each of its sides is once at the top: top, bottom, left, right."""
    r = jnp.swapaxes(u, 1, 2)
    return u, u[:, ::-1], r, r[:, ::-1]


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
    for side, strip in enumerate(sums.get("strips", ())):
        strip = strip.reshape(size, r, channels, r, channels)
        # Taps below the middle see the image from above it: a pixel `up` rows away sees row y - up of it.
        for (y, x), (z, w) in itertools.product(itertools.product(range(1, r + 1), range(size)), repeat=2):
            i, j = _turned(size, side, r + y, x), _turned(size, side, r + z, w)
            for up in range(1, min(y, z) + 1):
                a, b = y - up, z - up
                matrix[i, :, j] -= strip[x - w, a, :, b] if x >= w else strip[w - x, b, :, a].T
    for corner, pixels in enumerate(sums.get("corners", ())):
        pixels = pixels.reshape(r, r, channels, r, r, channels).transpose(1, 0, 2, 4, 3, 5)
        inner = itertools.product(range(1, r + 1), repeat=4)
        for y, x, z, w in inner:
            i, j = _mirrored(size, corner, r + y, r + x), _mirrored(size, corner, r + z, r + w)
            for up, left in itertools.product(range(1, min(y, z) + 1), range(1, min(x, w) + 1)):
                matrix[i, :, j] += pixels[y - up, x - left, :, z - up, w - left]
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


def _mirrored(size, corner, y, x):
    """The number of the tap that is (y, x) in the image whose corner 0 ... 3 was brought to the top left."""
    y, x = size - 1 - y if corner % 2 else y, size - 1 - x if corner > 1 else x
    return y * size + x


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
