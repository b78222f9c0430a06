"""Makes the README's picture from the quickstart's files: `python -m benchmarks.picture runs/quickstart OUT.png`"""

import sys
from pathlib import Path

import matplotlib
import numpy as np

from dci_jax.report import assemble

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PANELS = (
    (None, "private photographs"),
    ("dci/layer1.2 none", "DCI, one forward pass,\nafter layer1.2"),
    ("dci+refine/layer1.2 none", "DCI, then refined,\nafter layer1.2"),
    ("dci/layer2.0 none", "DCI, one forward pass,\nafter layer2.0"),
    ("rmle/layer1.2 none", "rMLE, as many steps,\nafter layer1.2"),
)


def main(workdir, out):
    folder = Path(workdir) / "evaluation"
    with np.load(folder / "originals.npz") as saved:
        originals, names = saved["pixels"], saved["names"]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(3 * len(PANELS), 4.2))
    for panel, (file, title) in zip(axes, PANELS, strict=True):
        pixels = originals
        if file:
            with np.load(folder / f"{file}.npz") as saved:
                pixels = saved["reconstruction"]
                title += f"\n{saved['psnr'].mean():.1f} dB"
        panel.imshow(assemble(pixels, names), interpolation="nearest")
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
