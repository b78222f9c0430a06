"""Scores that are invariant to brightness and contrast: what a person, or an image recognition program, would see.

PSNR and SSIM rate a dimmed picture or a negative as a bad reconstruction. Here an image's brightness and contrast are fitted
first, and it is compared by the *structure* that it adds to 4 x 4 colours:

    fitted(r)      = a r + b,  (a, b) = argmin sum |a r + b - x|^2
    detail_k(x)    = y - smooth(y),  y = the grey image at k x k pixels,  smooth(y) = the nearest that 4 x 4 colours interpolate to
    structure(r,x) = max over k, over r and its mirror image, of |correlation| of
                     (detail, detail), (detail of edges, detail of edges), (detail, detail of edges)

An interpolation of 4 x 4 colours has no structure, so a coarse arrangement of colours is never a match. Images of all sizes are
compared at k = 16, 32 and 64, as far as they have that many pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from dci_jax import metrics
from dci_jax.typing import Array

SIDES = (16, 32, 64)
COARSE = 4  # pixels a side of what counts as coarse colours
PAIRS = ((0, 0), (1, 1), (0, 1))  # detail and edges of a reconstruction beside those of an image
LEAST = 1 / 255  # root mean square below which a detail counts as less: rounding to 8 bits
FAINT = 0.2  # structure that images have in common by chance
SAME = 25.0  # dB; two private images that are closer count as one
_ROWS = 256  # reconstructions that are compared at a time


def scores(plain: dict[str, np.ndarray], truth: UInt8[Array, "B H W C"], batch: int) -> dict[str, Float[Array, "B"]]:
    """Scores of reconstructions of the images `truth`, in the same order.

    Args:
      plain: "reconstruction" uint8 [N, H, W, C], and their "psnr" and "ssim" [N].
      truth: uint8 [N, H, W, C].
      batch: images at a time.

    Returns:
      Each float32 [N]: "psnr_affine" and "ssim_affine", of the reconstruction or of its fit in brightness and contrast,
      whichever is higher; "structure" in [0, 1]; "structure_part", the highest of nine quarters of the image;
      "rank1_structure", 1 where no other image of `truth` (except those within `SAME` of its own) has as much structure
      in common with the reconstruction, else 0.
    """
    found = plain["reconstruction"]
    ours, theirs = details(found), details(truth)
    structure, first = identified(ours, theirs, alike(truth))
    fit = affine(found, truth, batch)
    return {
        "psnr_affine": np.maximum(plain["psnr"], fit["psnr"]),
        "ssim_affine": np.maximum(plain["ssim"], fit["ssim"]),
        "structure": structure,
        "structure_part": parts(ours, theirs),
        "rank1_structure": first,
    }


def affine(found: np.ndarray, truth: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """{"psnr", "ssim"} float32 [N] of what `fitted` makes of uint8 reconstructions [N, H, W, C]."""
    result = []
    for start in range(0, len(found), batch):
        pair = [np.float32(x[start : start + batch]) / 255 for x in (found, truth)]
        missing = batch - len(pair[0]) if start else 0  # one program serves all batches
        padded = [np.concatenate([x, np.repeat(x[-1:], missing, 0)]) for x in pair]
        result.append({name: np.asarray(v)[: len(pair[0])] for name, v in _affine(*padded).items()})
    return {name: np.concatenate([r[name] for r in result]) for name in result[0]}


@jax.jit
def _affine(found, truth):
    again = fitted(found, truth)
    return {"psnr": metrics.psnr(again, truth), "ssim": metrics.ssim(again, truth)}


def fitted(found: Float[Array, "B H W C"], truth: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """a r + b of each reconstruction r, with the a (possibly negative) and b that best fit its image; in [0, 1]."""
    axes = (1, 2, 3)
    r, x = (v - jnp.mean(v, axes, keepdims=True) for v in (found, truth))
    gain = jnp.sum(r * x, axes, keepdims=True) / (jnp.sum(r**2, axes, keepdims=True) + 1e-9)
    return jnp.clip(gain * r + jnp.mean(truth, axes, keepdims=True), 0, 1)


def identified(
    ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray], same: np.ndarray
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """("structure", "rank1_structure"), see `scores`, from the `details` of reconstructions and images and from `alike`."""
    structure, first, count = [], [], len(same)
    for start in range(0, count, _ROWS):
        rows = np.arange(start, min(start + _ROWS, count))
        matrix = similarity({k: d[rows] for k, d in ours.items()}, theirs)
        own = matrix[np.arange(len(rows)), rows]
        others = np.where(same[rows], -1.0, matrix).max(1)
        structure.append(own)
        first.append((own > others) & (own >= FAINT) & ~same[rows].all(1))
    return np.float32(np.concatenate(structure)), np.float32(np.concatenate(first))


def similarity(found: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> Float[Array, "B M"]:
    """`structure` of every reconstruction with every image, from their `details`: [N, M] in [0, 1]."""
    best = np.zeros((len(next(iter(found.values()))), len(next(iter(truth.values())))), np.float32)
    for side, ours in found.items():
        theirs = [_unit(truth[side][:, kind]) for kind in range(2)]
        for turned in (ours, ours[..., ::-1]):
            a = [_unit(turned[:, kind]) for kind in range(2)]
            for mine, other in PAIRS:
                best = np.maximum(best, np.abs(a[mine] @ theirs[other].T))
    return best


def parts(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray]) -> Float[Array, "B"]:
    """The highest |correlation| of detail over nine quarters of the image, at the finest side; its mirror image counts, too."""
    side = max(ours)
    a, b, best = ours[side][:, 0], theirs[side][:, 0], np.zeros(len(ours[side]), np.float32)
    for turned in (a, a[..., ::-1]):
        for top in range(0, side // 2 + 1, max(side // 4, 1)):
            for left in range(0, side // 2 + 1, max(side // 4, 1)):
                at = (slice(None), slice(top, top + side // 2), slice(left, left + side // 2))
                best = np.maximum(best, np.abs(np.sum(_unit(turned[at]) * _unit(b[at]), 1)))
    return best


def details(pixels: UInt8[Array, "B H W C"]) -> dict[int, Float[Array, "B 2 k k"]]:
    """Side k -> the detail of uint8 images and that of their edges, [N, 2, k, k]."""
    grey = np.float32(pixels).mean(3) / 255
    height, width = grey.shape[1:]
    sides = [k for k in SIDES if k <= min(height, width)] or [min(height, width)]
    result = {}
    for k in sides:
        small = _box(k, height) @ grey @ _box(k, width).T
        edges = np.hypot(*np.gradient(small, axis=(1, 2))) if k > 1 else small
        result[k] = np.stack([x - _smooth(k) @ x @ _smooth(k).T for x in (small, edges)], 1)
    return result


def alike(pixels: UInt8[Array, "B H W C"]) -> np.ndarray:
    """Which images are nearly the same: [N, N] bool, PSNR above `SAME`; True on the diagonal."""
    flat = np.float32(pixels).reshape(len(pixels), -1) / 255
    squares = (flat**2).sum(1)
    errors = (squares[:, None] + squares - 2 * flat @ flat.T) / flat.shape[1]
    return errors < 10 ** (-SAME / 10)


def thumbnail(pixels: UInt8[Array, "B H W C"]) -> UInt8[Array, "B H W C"]:
    """Each image's own 4 x 4 mean colours, interpolated to its size: what nobody would call a leak."""
    height, width = pixels.shape[1:3]
    down, up = (
        tuple(f(COARSE, n) for n in (height, width))
        for f in (lambda k, n: _box(min(k, n), n), lambda k, n: _between(n, min(k, n)))
    )
    images = np.moveaxis(np.float32(pixels), 3, 1)
    small = up[0] @ (down[0] @ images @ down[1].T) @ up[1].T
    return np.uint8(np.clip(np.moveaxis(small, 1, 3).round(), 0, 255))


def _unit(x):
    """Rows [N, -1] of length 1 and mean 0; shorter where they are within rounding."""
    x = x.reshape(len(x), -1)
    x = x - x.mean(1, keepdims=True)
    return x / np.sqrt((x**2).sum(1, keepdims=True) + LEAST**2 * x.shape[1])


@functools.cache
def _box(k, n):
    """The means of n pixels over k equal parts, as a matrix [k, n]."""
    edges, pixels = np.arange(k + 1) * n / k, np.arange(n)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.float32(np.maximum(overlap, 0) * k / n)


@functools.cache
def _between(n, k):
    """Linear interpolation of k equal parts to n pixels, as a matrix [n, k]."""
    places = np.clip((np.arange(n) + 0.5) * k / n - 0.5, 0, k - 1)
    return np.float32(np.maximum(1 - np.abs(places[:, None] - np.arange(k)), 0))


@functools.cache
def _smooth(k):
    """The least-squares projection [k, k] onto interpolations of 4 numbers, which have no detail left."""
    basis = _between(k, min(COARSE, k))
    return np.float32(basis @ np.linalg.pinv(basis))
