"""Bytes that features take when sent: as a lossless payload, compressed by deflate. On the host.

With at most 256 levels, a payload is a code book and each value's index in it, in as few bits as needed or
in whole bytes, whichever is shorter; else a mask of the nonzero values, and those values as float32. Positions are counted.
"""

import itertools
import zlib

import numpy as np

from dci_jax.typing import Array

_SAMPLE = 4096  # values that are looked at first


def marked_bytes(features: np.ndarray) -> int:
    """The same with another mask of the negative zeros: the values that `noise.dropout_marked` dropped."""
    return coded_bytes(features, np.packbits(np.signbit(features[features == 0])).tobytes())


def coded_bytes(features: Array, marks: bytes = b"") -> int:
    """Size in bytes of one example [...] float32 as a lossless payload, with `marks` in front, entropy coding included."""
    values = np.ascontiguousarray(features, np.float32).reshape(-1)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(values).max()
    few = values[:: len(values) // _SAMPLE + 1]  # real features have too many levels there already
    levels, symbols = _levels(values, rounding) if len(_levels(few, rounding)[0]) <= 256 else (None, None)
    if levels is None or len(levels) > 256:
        kept = values != 0
        mask = b"" if kept.all() else np.packbits(kept).tobytes()
        return len(zlib.compress(marks + mask + values[kept].tobytes()))
    book, bits = _book(levels), max(1, int(len(levels) - 1).bit_length())
    packed = np.packbits(np.unpackbits(np.uint8(symbols)[:, None], axis=1)[:, 8 - bits :])
    return min(len(zlib.compress(marks + book + message.tobytes())) for message in (packed, np.uint8(symbols)))


def _levels(values, rounding):
    """(levels, index of each value): values that differ only by `rounding` are one, the most frequent among them.

    Counting stops above 256 levels.
    """
    found, counts = np.unique(values, return_counts=True)
    starts = [0]
    while starts[-1] < len(found) and len(starts) < 258:
        starts.append(int(np.searchsorted(found, found[starts[-1]] + rounding, "right")))
    levels = np.array([found[a + counts[a:b].argmax()] for a, b in itertools.pairwise(starts)], np.float32)
    return levels, np.searchsorted(found[starts[:-1]], values, "right") - 1


def _book(levels):
    """The levels; if equally spaced, the first and the last, and a bit for each place that tells whether it occurs."""
    if len(levels) > 2:
        width = np.float64(levels[-1]) - levels[0]
        places = (levels - np.float64(levels[0])) / width * (width / np.diff(levels).min()).round()
        if np.abs(places - places.round()).max() < 0.02 and places[-1] < 65536:
            used = np.zeros(int(places[-1].round()) + 1, bool)
            used[places.round().astype(int)] = True
            return levels[[0, -1]].tobytes() + np.packbits(used).tobytes()
    return levels.tobytes()
