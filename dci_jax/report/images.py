"""The files of a run on images -> report/index.html, one self-contained page."""

import csv
import html
import json
import re
from pathlib import Path

import numpy as np

from dci_jax.attacks.registry import ORACLE
from dci_jax.report import page
from dci_jax.results import ANY_SPLIT, photograph

_SHOWN = 24  # single images in a grid


def write(workdir: Path) -> Path:
    """Make the report of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    rows = list(csv.DictReader((workdir / "summary.csv").open()))
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        originals, names, skipped = saved["pixels"], saved["names"], saved["skipped"]

    sections = [
        _headline(rows, names, len(skipped)),
        _without_statistics(rows),
        "<h2>Leakage against depth</h2>" + _charts(rows, folder),
        "<p>An early split is on the left, a late one on the right. High means that more can be read back. The dashed "
        "lines are baselines: guesses without any features, and 4 x 4 of an image's own colors. Bars: 95 % intervals of the mean.</p>",
        "<h2>What was reconstructed</h2>" + _grids(workdir, rows, originals, names),
        _synthesised(workdir),
        "<h2>Every number</h2>" + page.table(rows, _COLUMNS),
        _HOW_TO_READ,
        page.this_run(workdir, skipped),
    ]
    return page.write(folder / "index.html", _title(rows), sections)


def _title(rows):
    return f"How much can be read back from {rows[0]['target']}?"


def _headline(rows, names, skipped):
    """The worst attacker at the first and at the last split point, without a defense where there is such a row."""
    count, whole = len(names), len({photograph(str(name)) for name in names})
    tiles = f", tiles of {whole} photographs," if whole < count else ""
    text = f"<h1>{html.escape(_title(rows))}</h1><p class=lead>{count} private images{tiles} that no attack has seen"
    text += f" ({skipped} damaged files were skipped)." if skipped else "."
    known = [r for r in rows if r["split"] != ANY_SPLIT and r["psnr"] and r["attack"] != ORACLE]
    plain = [r for r in known if r["defense"] == "none"] or known
    splits = list(dict.fromkeys(r["split"] for r in plain))
    if not splits:
        return text + "</p>"
    worst = [
        max((r for r in plain if r["split"] == s), key=lambda r: float(r["psnr"])) for s in (splits[0], splits[-1])
    ]
    said = [
        f"{float(r['psnr']):.1f} dB PSNR after <code>{html.escape(r['split'])}</code> ({html.escape(page.label(r['attack']))})"
        for r in (worst if len(splits) > 1 else worst[:1])
    ]
    text += " The worst attacker reconstructs them with " + " and ".join(said)
    guesses = [r for r in rows if r["split"] == ANY_SPLIT]
    if guesses:
        best = max(guesses, key=lambda r: float(r["psnr"]))
        text += f"; the best {html.escape(page.label(best['attack']))} has {float(best['psnr']):.1f} dB"
    return text + ".</p>"


def _without_statistics(rows):
    if any(r.get("batch_norms") != "0" for r in rows if r["bytes_sent"]):
        return ""
    return (
        f"<p>{html.escape(rows[0]['target'])} has no BatchNorm layer up to these split points, so no statistics that would tell "
        "what it was trained on: the attacks learned from procedural images, or from images made by its labels alone.</p>"
    )


def _charts(rows, folder):
    parts = []
    for metric, label in (
        ("psnr", "PSNR, dB"),
        ("ssim", "SSIM"),
        ("label_agreement", "label agreement"),
    ):
        if all(r[metric] != "" for r in rows):  # else a network without a head
            parts.append(page.depth_chart(rows, metric, label, folder / f"leakage_{metric}.png"))
    return f"<div class='grid smooth'>{''.join(parts)}</div>"


def _grids(workdir, rows, originals, names):
    parts = []
    original = assemble(originals, names)
    cells = [r for r in rows if r["split"] != ANY_SPLIT]
    for split in dict.fromkeys(r["split"] for r in cells):
        figures = [("original", "private, never seen by the attack", original)]
        for r in (r for r in cells if r["split"] == split):
            file = workdir / "evaluation" / r["attack"] / f"{split} {r['defense']}.npz"
            with np.load(file) as saved:
                picture = assemble(saved["reconstruction"], names)
            label = page.label(r["attack"])
            label += "" if r["defense"] == "none" else f", defense {r['defense']}"
            figures.append((label, f"{float(r['psnr']):.1f} dB, SSIM {float(r['ssim']):.2f}", picture))
        kib = next(float(r["bytes_sent"]) / 1024 for r in cells if r["split"] == split)
        parts.append(f"<h3>after <code>{html.escape(split)}</code> <small>{kib:.0f} KiB sent per image</small></h3>")
        parts.append("<div class=grid>")
        for label, caption, picture in figures:
            parts.append(
                f"<figure>{page.picture(page.encoded(picture), label)}<figcaption><b>{html.escape(label)}</b><br>"
                f"{html.escape(caption)}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join(parts)


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


def _synthesised(workdir):
    files = sorted((workdir / "synthesis").glob("batch_*.npy"))
    if not files:
        return ""
    images = np.load(files[0], mmap_mode="r")[:48]
    images = images if images.shape[1] <= page.ENLARGED else images[:12]
    known = workdir / "synthesis" / "recognised.json"
    shares = json.loads(known.read_text()) if known.exists() else {}
    shares = " and ".join(f"{html.escape(n)} for {share:.0%}" for n, share in shares.items())
    return (
        "<h2>What the attack learned from</h2><p>Some of the images that were synthesised from the network's own "
        "BatchNorm statistics. No real image was used.</p>"
        + (f"<p>Each was made for a label. That label is the answer of {shares} of them.</p>" if shares else "")
        + page.picture(page.encoded(page.tile(images, 12 if len(images) > 12 else 4)), "synthesised images")
    )


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
    ("label_kept", "label kept"),
    ("top1", "top-1"),
    ("top1_original", "top-1, original"),
    ("bytes_sent", "bytes sent"),
    ("device_flops", "device FLOPs"),
)


_HOW_TO_READ = """<h2>How to read this</h2>
<ul>
<li><b>PSNR</b> is measured on pixels in [0, 1] with peak 1, at most 100 dB, and is the mean over images; some papers give
the PSNR of the mean squared error instead, which is lower. Above 20 dB a picture is usually recognisable, above 30 dB
it is close to the original. <b>SSIM</b> runs to 1. <b>Structure</b> is the correlation of detail with the original's, which
brightness, contrast and a mirror do not change. None says that nobody is recognised: look at the pictures.</li>
<li><b>Label agreement</b>: how often the network gives the reconstruction the label that it gives the original.
<b>Top-1</b>: how often it gives the reconstruction its true label, where labels are given.
<b>Label kept</b>: how often the features sent, after the defense, still give the label: what the defense costs.</li>
<li>Two <b>baselines</b> know nothing of the image: the mean of the others, and another one at random. The third is what 4 x 4 of
its own colors show. The <b>oracle</b>, where there is one, is an attacker with real images of the same kind; the data-free
attacks have none.</li>
<li>A <b>low score is a lower bound</b>, no proof of safety: another attacker may reconstruct more. Images differ; look at
the 95th percentile over images, not at the mean alone.</li>
<li>The attacks know the network and its weights; those called adapted know the defense, too.</li>
</ul>"""
