"""He et al.'s table beside ours: `python -m benchmarks.he_table TRAINED RMLE INVERSE SAME SOLVED`

Prints markdown: PSNR / SSIM at the paper's three split points. Each is the summary.csv of a variant of
`configs/he_cifar.py`; those at the end may be missing.
"""

import csv
import sys
from pathlib import Path

SPLITS = ("conv11", "relu22", "relu32")
# He, Zhang & Lee (ACSAC 2019), CIFAR-10: PSNR in dB and SSIM at the three splits.
PUBLISHED = {
    "rMLE": ((37.59, 0.996), (19.47, 0.694), (13.38, 0.163)),
    "inverse network, training set": ((49.88, 0.999), (19.81, 0.694), (15.42, 0.312)),
    "inverse network, same distribution": ((49.02, 0.999), (19.36, 0.680), (13.95, 0.220)),
    "inverse network, random noise": ((48.59, 1.0), (12.79, 0.293), (12.37, 0.044)),
}
# (which summary, attack there) -> the row; the oracles are inverse networks on real images.
OURS = {
    (1, "rmle"): "rMLE",
    (2, "oracle"): "inverse network, training set",
    (3, "oracle"): "inverse network, same distribution",
    (2, "inverse_network@white_noise"): "inverse network, random noise",
    (2, "inverse_network"): "inverse network, procedural images",
    (0, "dci_trained"): "DCI, trained, data-free, one forward pass",
    (0, "dci_trained+refine"): "DCI, trained, then refined",
    (4, "dci"): "**DCI, solved, data-free, one forward pass**",
}


def table(summaries):
    """The lines of the table; `summaries` are lists of rows of summary.csv."""
    yield "| attack | | " + " | ".join(f"`{split}`" for split in SPLITS) + " |"
    yield "|---" * (2 + len(SPLITS)) + "|"
    for (number, attack), title in OURS.items():
        if title in PUBLISHED:
            cells = (f"{psnr:.2f} / {ssim:.3f}" for psnr, ssim in PUBLISHED[title])
            yield f"| {title} | published | " + " | ".join(cells) + " |"
        if number < len(summaries):
            found = {r["split"]: r for r in summaries[number] if r["attack"] == attack}
            if not found:
                continue
            cells = (f"{float(found[s]['psnr']):.2f} / {float(found[s]['ssim']):.3f}" for s in SPLITS)
            shown = "" if title in PUBLISHED else title
            yield f"| {shown} | here | " + " | ".join(cells) + " |"


def main(*files):
    summaries = [list(csv.DictReader(Path(file).read_text().splitlines())) for file in files]
    print("\n".join(table(summaries)))


if __name__ == "__main__":
    main(*sys.argv[1:])
