"""Makes the README's pictures from a run's files: `python -m benchmarks.picture WORKDIR OUT.png ATTACK/SPLIT ...`

    python -m benchmarks.picture runs/quickstart docs/readback.png \\
        dci/layer1.2 dci+refine/layer1.2 dci/layer2.0 rmle/layer1.2
"""

from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.usage import arguments
from dci_jax.report.images import assemble

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAMES = {
    "dci": "DCI, one forward pass,",
    "dci+refine": "DCI, then refined,",
    "dci_trained": "trained DCI, one pass,",
    "dci_trained+refine": "trained DCI, then refined,",
    "rmle": "rMLE, as many steps,",
    "oracle": "oracle: real images,",
}


def main(workdir, out, *cells):
    folder = Path(workdir) / "evaluation"
    with np.load(folder / "originals.npz") as saved:
        originals, names = saved["pixels"], saved["names"]
    figure, axes = plt.subplots(1, 1 + len(cells), figsize=(3 * (1 + len(cells)), 4.2))
    for panel, cell in zip(axes, (None, *cells), strict=True):
        pixels, title = originals, "private photographs"
        if cell:
            attack, _, split = cell.partition("/")
            with np.load(folder / attack / f"{split} none.npz") as saved:
                pixels = saved["reconstruction"]
                title = f"{NAMES[attack]}\nafter {split}\n{saved['psnr'].mean():.1f} dB"
        panel.imshow(assemble(pixels, names), interpolation="nearest")
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(*arguments(__doc__, 3))
