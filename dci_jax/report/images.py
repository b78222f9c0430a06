"""The files of a run on images -> report/index.html, one self-contained page."""

import csv
import json
import re
from pathlib import Path

import numpy as np

from dci_jax.attacks.naming import ORACLE
from dci_jax.report import labels, page
from dci_jax.results import ANY_SPLIT, photograph

_SHOWN = 24  # single images in a grid
_COLUMNS = (
    ("split", "split"),
    ("attack", "attack"),
    ("defense", "defense"),
    ("n", "n"),
    ("psnr", "PSNR dB"),
    ("ssim", "SSIM"),
    ("psnr_worst5", "PSNR, 95th percentile"),
    ("ssim_worst5", "SSIM, 95th percentile"),
    ("psnr_mean_mse", "PSNR of the mean MSE"),
    ("structure", "structure"),
    ("rank1_structure", "rank 1 by structure"),
    ("label_agreement", "label agreement"),
    ("server_agreement", "predictions kept"),
    ("top1", "top-1"),
    ("top1_original", "top-1, original"),
    ("bytes_sent", "bytes sent"),
    ("device_flops", "device FLOPs"),
)


def write(workdir: Path) -> Path:
    """Make the report of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    rows = list(csv.DictReader((workdir / "summary.csv").open()))
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        originals, names, skipped = saved["pixels"], saved["names"], saved["skipped"]
    strongest, guess = _strongest(rows)
    return page.write(
        folder / "index.html",
        "images.html.jinja",
        title=f"How much can be reconstructed from the features of {rows[0]['target']}?",
        target=rows[0]["target"],
        images=len(names),
        photographs=len({photograph(str(name)) for name in names}),
        skipped=len(skipped),
        strongest=strongest,
        guess=guess,
        without_statistics=all(r.get("batch_norms") == "0" for r in rows if r["bytes_sent"]),
        charts=_charts(rows, folder),
        splits=_grids(workdir, rows, originals, names),
        synthesized=_synthesized(workdir),
        rows=rows,
        columns=_COLUMNS,
        run=page.this_run(workdir, skipped),
    )


def _strongest(rows):
    """(rows of the attack with the highest PSNR at the first and at the last split point, row of the best baseline).

    Without a defense, where there is such a row; () and None where there is none.
    """
    known = [r for r in rows if r["split"] != ANY_SPLIT and r["psnr"] and r["attack"] != ORACLE]
    plain = [r for r in known if r["defense"] == "none"] or known
    splits = list(dict.fromkeys(r["split"] for r in plain))
    ends = list(dict.fromkeys((*splits[:1], *splits[-1:])))
    strongest = [max((r for r in plain if r["split"] == s), key=lambda r: float(r["psnr"])) for s in ends]
    guesses = [r for r in rows if r["split"] == ANY_SPLIT]
    return strongest, max(guesses, key=lambda r: float(r["psnr"]), default=None)


def _charts(rows, folder):
    return [
        page.depth_chart(rows, metric, label, folder / f"leakage_{metric}.png")
        for metric, label in (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("label_agreement", "label agreement"))
        if all(r[metric] != "" for r in rows)  # else a network without a head
    ]


def _grids(workdir, rows, originals, names):
    """For each split: its name, the KiB sent, the originals and their reconstructions."""
    original = page.encoded(assemble(originals, names))
    found = []
    cells = [r for r in rows if r["split"] != ANY_SPLIT]
    for split in dict.fromkeys(r["split"] for r in cells):
        pictures = [page.picture(original, "original", "original", ["private, never seen by the attack"])]
        here = [r for r in cells if r["split"] == split]
        for r in here:
            with np.load(workdir / "evaluation" / r["attack"] / f"{split} {r['defense']}.npz") as saved:
                content = page.encoded(assemble(saved["reconstruction"], names))
            label = labels.attack(r["attack"]) + ("" if r["defense"] == "none" else f", defense {r['defense']}")
            scores = f"{float(r['psnr']):.1f} dB, SSIM {float(r['ssim']):.2f}"
            pictures.append(page.picture(content, label, label, [scores]))
        found.append({"name": split, "kib": float(here[0]["bytes_sent"]) / 1024, "pictures": pictures})
    return found


def assemble(pixels, names):
    """One picture uint8 [H, W, 3] of many [N, h, w, 3]: tiles "name r0c1" are put together again.

    Images that are no tiles stand in a grid, the first 24 of them, or 12 large ones.
    """
    tiles = [re.fullmatch(r"(.*) r(\d+)c(\d+)", str(name)) for name in names]
    if all(tiles):
        pictures = {}
        for tile, image in zip(tiles, pixels, strict=True):
            pictures.setdefault(tile[1], {})[int(tile[2]), int(tile[3])] = image
        wholes = []
        for parts in pictures.values():
            rows, columns = (1 + max(place[axis] for place in parts) for axis in (0, 1))
            lines = [np.concatenate([parts[r, c] for c in range(columns)], 1) for r in range(rows)]
            wholes.append(np.concatenate(lines))
        return page.tile(np.stack(wholes), 2)
    small = pixels.shape[1] <= page.ENLARGED
    return page.tile(pixels[: _SHOWN if small else _SHOWN // 2], 6 if small else 4)


def _synthesized(workdir):
    """A picture of synthesized images, and the share of them that each network recognizes; None without any."""
    files = sorted((workdir / "synthesis").glob("batch_*.npy"))
    if not files:
        return None
    images = np.load(files[0], mmap_mode="r")[:48]
    images = images if images.shape[1] <= page.ENLARGED else images[:12]
    known = workdir / "synthesis" / "verifier_accuracy.json"
    content = page.encoded(page.tile(images, 12 if len(images) > 12 else 4))
    return {
        "picture": page.picture(content, "synthesized images"),
        "shares": json.loads(known.read_text()) if known.exists() else {},
    }
