"""Sums over pixels of an image times a shifted one, for many shifts at once, by the discrete Fourier transform.

    sum_q  u(q + d) t(q)^T  =  1/N sum_w  U(w) conj(T(w))^T exp(i w d)        with zeros around the images

All shifts share one product of channels per frequency: for the 41 shifts of 5 x 5 neighbourhoods that is a
tenth of the direct products. The transforms themselves are products with small matrices of cosines and sines, which
suit every accelerator; real and imaginary parts are concatenated, so that all operations are matrix products.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.typing import Array

_EXACT = jax.lax.Precision.HIGHEST


def spectrum(u: Float[Array, "B H W C"], reach: int) -> Float[Array, "f g parts C"]:
    """U(w) of images padded with `reach` zeros: real parts of all images, then imaginary ones, 2 B together.

    f counts the non-negative frequencies of rows, the others being their conjugates; g all of columns.
    """
    batch, height, width, channels = u.shape
    down = _wave(height + reach, (height + reach) // 2 + 1, range(height))  # [f, H]
    across = _wave(width + reach, width + reach, range(width))
    # exp(-i w x) of real rows, then of complex columns; [f, 2, H] and [g, 2, 2, W]
    down = np.stack([down.real, -down.imag], 1)
    across = np.stack([np.stack([across.real, across.imag], 1), np.stack([-across.imag, across.real], 1)], 1)
    # A product for each image, and for each of its rows, stays in the processor's cache.
    rows = _each(down.reshape(-1, height), u.reshape(batch, height, -1))
    rows = rows.reshape(batch * len(down), 2 * width, channels)
    found = _each(across.reshape(-1, 2 * width), rows)
    found = found.reshape(batch, len(down), len(across), 2, channels).transpose(1, 2, 3, 0, 4)
    return found.reshape(len(down), len(across), 2 * batch, channels)


def correlations(
    u: Float[Array, "f g parts C"],
    t: Float[Array, "f g parts T"],
    rows: Sequence[int],
    columns: Sequence[int],
    shape: tuple[int, int],
) -> Float[Array, "rows columns C T"]:
    """sum_q u(q + d) t(q)^T of all images for every d = (one of `rows`, one of `columns`).

    Args:
      u, t: spectra of both, padded by the largest shift.
      rows, columns: shifts in pixels.
      shape: (height, width) of the padded images.
    """
    across = _across(shape, columns)

    def at(spectra):
        return sum(_apply("xg,gn->xn", *pair) for pair in zip(across, _products(*spectra), strict=True))

    # One frequency of rows at a time: all products together can take gigabytes.
    found = _inverse_of_rows(jax.lax.map(at, (u, t)), rows, shape)
    return found.reshape(len(rows), len(columns), u.shape[-1], t.shape[-1])


def autocorrelations(
    u: Float[Array, "f g parts C"], rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int]
) -> Float[Array, "rows columns C C"]:
    """`correlations` of images with themselves: three quarters of the products, as U conj(U)^T is Hermitian."""
    across = _across(shape, columns)

    def at(spectra):
        return [_apply("xg,gn->xn", *pair) for pair in zip(across, _squares(spectra), strict=True)]

    real, half = (
        _inverse_of_rows(found, rows, shape).reshape(len(rows), len(columns), u.shape[-1], -1)
        for found in jax.lax.map(at, u)
    )
    return real + half - half.swapaxes(2, 3)


def along_rows(u: Float[Array, "B r W C"], reach: int) -> Float[Array, "shifts rC rC"]:
    """sum_x u(y, x + d) u(z, x)^T of all images for every pair of rows y, z, and d = 0 ... reach."""
    batch, _, width, _ = u.shape
    wave = _wave(width + reach, (width + reach) // 2 + 1, range(width))
    wave = np.stack([wave.real, -wave.imag], 1)
    found = _apply("fw,wn->fn", wave.reshape(-1, width), u.transpose(2, 0, 1, 3).reshape(width, -1))
    found = found.reshape(len(wave), 2 * batch, -1)
    weights, size = _half(width + reach, range(reach + 1)), found.shape[-1]
    real, half = (
        _apply("xf,fn->xn", weights[:, part::2], product).reshape(-1, size, size)
        for part, product in enumerate(_squares(found))
    )
    return real + half - half.swapaxes(1, 2)


def _across(shape, columns):
    """[2 columns, g] for real parts and for imaginary ones: the inverse transform along columns, first its real part."""
    wave = _wave(shape[1], shape[1], columns).T
    return np.concatenate([wave.real, wave.imag]), np.concatenate([-wave.imag, wave.real])


def _inverse_of_rows(found, rows, shape):
    """[f, 2 columns, ...], real part and imaginary part in turns -> [rows, columns, ...], flat."""
    height, width = shape
    return _apply("yf,fn->yn", _half(height, rows) / width, found.reshape(2 * len(found), -1))


def _products(u, t):
    """U conj(T)^T summed over images: [g, 2 B, C] and [g, 2 B, T] -> its real part and its imaginary part, [g, C T] each."""
    half = t.shape[1] // 2
    turned = jnp.concatenate([-t[:, half:], t[:, :half]], 1)
    return tuple(_apply("gbc,gbt->gct", u, part).reshape(len(u), -1) for part in (t, turned))


def _squares(u):
    """U conj(U)^T summed over images: its real part, and M, of which M - M^T is the imaginary one, [g, C C] each."""
    half = u.shape[1] // 2
    real, imaginary = u[:, :half], u[:, half:]
    return tuple(_apply("gbc,gbd->gcd", *pair).reshape(len(u), -1) for pair in ((u, u), (imaginary, real)))


def _half(period, places):
    """[places, 2 f]: the real part of the inverse transform at `places` from half of the frequencies, in turns as above."""
    wave = _wave(period, period // 2 + 1, places).T
    count = np.full(period // 2 + 1, 2.0)  # each stands for itself and for its negative one
    count[0] = 1
    if period % 2 == 0:
        count[-1] = 1
    return (np.stack([wave.real, -wave.imag], -1) * (count / period)[:, None]).reshape(len(places), -1)


def _wave(period, frequencies, places):
    """exp(2 pi i w x / period), [frequencies, places]; in whole turns first, so that large angles lose no digits."""
    turns = np.outer(np.arange(frequencies), np.asarray(places)) % period
    return np.exp(2j * np.pi * turns / period)


def _each(matrix, batches):
    """matrix @ each of `batches` [B, n, m]."""
    return _apply("bfn,bnm->bfm", jnp.broadcast_to(matrix, (len(batches), *matrix.shape)), batches)


def _apply(what, a, b):
    return jnp.einsum(what, jnp.asarray(a, jnp.float32), b, precision=_EXACT)
