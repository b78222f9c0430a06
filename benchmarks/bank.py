"""Host memory while training images are read from disk: `python -m benchmarks.bank FOLDER IMAGES BATCHES`.

Writes IMAGES random 224-pixel images as shards into FOLDER (once), reads BATCHES batches of 64 and
prints the process's anonymous memory before and after: it must not grow with the number of images.
"""

import re
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.usage import arguments
from dci_jax.inputs.mixture import Prior, Shards, batches

SHARD, BATCH, SIDE = 128, 64, 224


def resident():
    """MiB of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


if __name__ == "__main__":
    folder, count, steps = (kind(text) for kind, text in zip((Path, int, int), arguments(__doc__, 3, 3), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    files = tuple(folder / f"batch_{i:05d}.npy" for i in range(count // SHARD))
    for i, file in enumerate(files):
        if not file.exists():
            shape = (SHARD, SIDE, SIDE, 3)
            np.save(file, np.random.default_rng(i).integers(0, 255, shape, np.uint8))
    bank = Shards(files, (len(files), SHARD, SIDE, SIDE, 3))
    batch = batches(Prior(bank, (("synthetic", 1.0),), (SIDE, SIDE, 3)), jax.random.key(0), BATCH)
    for number in range(20):
        batch(number).block_until_ready()
    before, start = resident(), time.monotonic()
    for number in range(20, steps):
        batch(number).block_until_ready()
    rate = (steps - 20) * BATCH / (time.monotonic() - start)
    print(
        f"{len(bank)} images ({len(bank) * SIDE * SIDE * 3 / 2**20:.0f} MiB): {before:.0f} MiB after 20 "
        f"batches, {resident():.0f} MiB after {steps}; {rate:.0f} images/s"
    )
