"""Dead leaves as private images, to weigh an attack's settings on without any real image: `python -m benchmarks.held_out OUT.npz 16`

Their key is one that no run trains with. Give the file to --config.data.images.
"""

import sys

import jax
import numpy as np

from dci_jax.procedural import dead_leaves

KEY = 20_000


def main(out, count, side=32):
    images = dead_leaves(jax.random.key(KEY), int(count), (int(side), int(side), 3))
    np.savez(out, images=np.uint8(np.round(255 * np.asarray(images))))


if __name__ == "__main__":
    main(*sys.argv[1:])
