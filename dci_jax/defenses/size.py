"""How many bytes features take when they are really sent: a lossless message, through deflate. On the host.

Where there are at most 256 levels a message is a code book and each value's number in it, in as few bits as they need or
in whole bytes, whichever is shorter; else a mask of what is not zero, and those values as float32. Positions are counted.
"""

import itertools
import zlib

import numpy as np


def marked_bytes(features: np.ndarray) -> int:
    """The same where another mask says which zeros are negative: those that `noise.dropout_marked` left out."""
    return coded_bytes(features, np.packbits(np.signbit(features[features == 0])).tobytes())


def coded_bytes(features: np.ndarray, marks: bytes = b"") -> int:
    """Size in bytes of one example [...] float32 as a lossless message, with `marks` in front, entropy coding included."""
    values = np.ascontiguousarray(features, np.float32).reshape(-1)
    levels, symbols = _levels(values)
    if len(levels) > 256:
        kept = values != 0
        mask = b"" if kept.all() else np.packbits(kept).tobytes()
        return len(zlib.compress(marks + mask + values[kept].tobytes()))
    book, bits = _book(levels), max(1, int(len(levels) - 1).bit_length())
    packed = np.packbits(np.unpackbits(np.uint8(symbols)[:, None], axis=1)[:, 8 - bits :])
    return min(len(zlib.compress(marks + book + message.tobytes())) for message in (packed, np.uint8(symbols)))


def _levels(values):
    """(levels, the number of each value's): values that differ by rounding alone are one, the most frequent among them.

    More than 256 levels are not counted to their end.
    """
    found, counts = np.unique(values, return_counts=True)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(found[[0, -1]]).max()
    starts = [0]
    while starts[-1] < len(found) and len(starts) < 258:
        starts.append(int(np.searchsorted(found, found[starts[-1]] + rounding, "right")))
    levels = np.array([found[a + counts[a:b].argmax()] for a, b in itertools.pairwise(starts)], np.float32)
    return levels, np.searchsorted(found[starts[:-1]], values, "right") - 1


def _book(levels):
    """The levels; where they lie at equal distances, two numbers say so and a bit each which of them occur."""
    if len(levels) > 2:
        width = np.float64(levels[-1]) - levels[0]
        places = (levels - np.float64(levels[0])) / width * (width / np.diff(levels).min()).round()
        if np.abs(places - places.round()).max() < 0.02 and places[-1] < 65536:
            used = np.zeros(int(places[-1].round()) + 1, bool)
            used[places.round().astype(int)] = True
            return levels[[0, -1]].tobytes() + np.packbits(used).tobytes()
    return levels.tobytes()
