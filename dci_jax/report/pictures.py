"""Pictures of an audit: the most exposed image, and for each split point the originals above their reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dci_jax.report import labels, page
from dci_jax.report.labels import once
from dci_jax.report.verdict import Cell

_SHOWN = 8  # images in a strip


def most_exposed(workdir: Path, found: Sequence[Cell], originals: np.ndarray, names: np.ndarray) -> page.Picture:
    """The image that leaks most, at its own size: of the cell that leaks most, by the strongest attacker there."""
    cell = max(found, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0))
    scores = _read(workdir, cell, cell.worst)
    worst = int(np.argmax(scores["ssim"]))
    pair = page.tile(np.stack([originals[worst], scores["reconstruction"][worst]]), 2)
    caption = (
        f"The image that leaks most, {names[worst]}, after {cell.split} with {labels.defense(cell.defense)}. Left: the "
        f"original. Right: its reconstruction by {labels.attack(cell.worst)} ({float(scores['psnr'][worst]):.1f} dB, "
        f"SSIM {float(scores['ssim'][worst]):.2f})."
    )
    return page.picture(page.encoded(pair), caption, lines=[caption])


def strips(workdir: Path, found: Sequence[Cell], originals: np.ndarray) -> list[tuple[str, page.Picture]]:
    """For each split: originals, the best reconstruction without a defense, the best with the strongest, a baseline."""
    count, parts = min(_SHOWN, len(originals)), []
    pick = np.linspace(0, len(originals) - 1, count).astype(int)
    for split in dict.fromkeys(c.split for c in found):
        several = [c for c in found if c.split == split]
        rows = [("original", originals[pick])]
        plain = [c for c in several if c.defense == "none"]
        hardest = min(several, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0))
        for c in (*plain, *([hardest] if hardest not in plain else ())):
            mean = c.attacks[c.worst]
            rows.append(
                (
                    f"{labels.defense(c.defense)}, reconstructed by {labels.attack(c.worst)}: "
                    f"{mean['psnr'][0]:.1f} dB, SSIM {mean['ssim'][0]:.2f}",
                    _read(workdir, c, c.worst)["reconstruction"][pick],
                )
            )
        with np.load(workdir / "evaluation" / "mean_image.npz") as saved:
            rows.append((labels.attack("mean_image"), saved["reconstruction"][pick]))
        strip = page.tile(np.concatenate([images for _, images in rows]), count)
        alt = f"images after {split}, each row a reconstruction"
        parts.append((split, page.picture(page.encoded(strip), alt, lines=[name for name, _ in rows])))
    return parts


def _read(workdir, cell, attack):
    name, queries = once(attack)
    with np.load(workdir / "evaluation" / name / f"{cell.split} {cell.defense}{queries}.npz") as saved:
        return dict(saved)
