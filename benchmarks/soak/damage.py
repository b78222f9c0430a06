"""How bytes are damaged: flipped bits, cuts, zeros, repeated and foreign ones."""

import random


def damaged(rng: random.Random, content: bytes) -> bytes:
    """One to three damages."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(content)), rng.choice([1, 1, 4, 64, 1024])
        kind = rng.randrange(5)
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at:
            del content[at:]
        elif kind == 2:
            content[at : at + length] = bytes(min(length, len(content) - at))
        elif kind == 3:
            content[at:at] = content[at : at + length]
        else:
            content[at : at + length] = rng.randbytes(length)
    return bytes(content)
