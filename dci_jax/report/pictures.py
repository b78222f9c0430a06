"""Pictures of an audit: the most exposed image, and for each split point originals beside their best readings."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dci_jax.report import page
from dci_jax.report.leaks import Policy
from dci_jax.report.verdict import Cell, once

_SHOWN = 8  # images in a strip


def most_exposed(workdir: Path, found: Sequence[Cell], policy: Policy, originals: np.ndarray, names: np.ndarray) -> str:
    """The image that leaks most of all, at its own size, with its name: the worst cell's, by the attacker who is worst there."""
    cell = max(found, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0))
    scores = _read(workdir, cell, cell.worst)
    worst = int(np.argmax(scores["ssim"]))
    pair = page.tile(np.stack([originals[worst], scores["reconstruction"][worst]]), 2)
    caption = (
        f"The image that leaks most, {names[worst]}, after {cell.split} with {named(cell.defense)}: the original, and what "
        f"{who(cell.worst)} reconstructs ({float(scores['psnr'][worst]):.1f} dB, SSIM {float(scores['ssim'][worst]):.2f})."
    )
    return (
        f"<figure>{page.picture(page.encoded(pair), caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def strips(workdir: Path, found: Sequence[Cell], originals: np.ndarray) -> str:
    """For each split: originals, the best reading without a defense, the best one behind the strongest, the floor."""
    count, parts = min(_SHOWN, len(originals)), []
    pick = np.linspace(0, len(originals) - 1, count).astype(int)
    for split in dict.fromkeys(c.split for c in found):
        several = [c for c in found if c.split == split]
        rows = [("original", originals[pick])]
        plain = [c for c in several if c.defense == "none"]
        hardest = min(several, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0))
        for c in (*plain, *([hardest] if hardest not in plain else ())):
            mean = c.attacks[c.worst]
            label = f"{named(c.defense)}, reconstructed by {who(c.worst)}: {mean['psnr'][0]:.1f} dB, SSIM {mean['ssim'][0]:.2f}"
            rows.append((label, _read(workdir, c, c.worst)["reconstruction"][pick]))
        with np.load(workdir / "evaluation" / "mean_image.npz") as saved:
            rows.append((page.label("mean_image"), saved["reconstruction"][pick]))
        strip = page.tile(np.concatenate([images for _, images in rows]), count)
        names = "<br>".join(html.escape(name) for name, _ in rows)
        alt = f"images after {split}, each row a reading"
        parts.append(
            f"<h3>after <code>{html.escape(split)}</code></h3><figure>{page.picture(page.encoded(strip), alt)}"
            f"<figcaption>{names}</figcaption></figure>"
        )
    return "\n".join(parts)


def who(attack: str) -> str:
    """What an attack is called, with the number of sends that it has."""
    name, sends = once(attack)
    return page.label(name) + (f", {sends[2:]} sends of each image" if sends else "")


def named(defense: str) -> str:
    """What a defense is called on the page."""
    return "no defense" if defense == "none" else defense


def _read(workdir, cell, attack):
    name, sends = once(attack)
    with np.load(workdir / "evaluation" / name / f"{cell.split} {cell.defense}{sends}.npz") as saved:
        return dict(saved)
