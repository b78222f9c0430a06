"""Images of a generator's latents over what each attack made of them: `python -m benchmarks.latents_picture OUT.png EVALUATION ...`

Each EVALUATION is an .npz of a run's evaluation folder, such as "WORKDIR/evaluation/dci_trained/image none.npz";
the first row shows the images that were given to the first.
"""

import numpy as np
from PIL import Image

from benchmarks.usage import arguments

SHOWN, SCALE = 12, 2  # images in a row, and how much larger they are drawn


def main(out, *files):
    found = [np.load(file) for file in files]
    rows = [found[0]["sent"], *(f["reconstruction"] for f in found)]
    sheet = np.concatenate([np.concatenate(list(row[:SHOWN]), 1) for row in rows])
    Image.fromarray(sheet.repeat(SCALE, 0).repeat(SCALE, 1)).save(out)


if __name__ == "__main__":
    main(*arguments(__doc__, 2))
