"""The files of a run -> report/index.html, one self-contained page: `python -m dci_jax.report WORKDIR`.

Several workdirs make one joint report: `python -m dci_jax.report W1 W2 ... [--out=FOLDER]`.
"""

import argparse
import csv
import html
import json
import re
import sys
import zipfile
from pathlib import Path

import matplotlib
import numpy as np

from dci_jax import joint, page, report_codes
from dci_jax.evaluate import ANY_SPLIT

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_SHOWN = 24  # single images in a grid


def write(workdir: Path) -> Path:
    """Make the report of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    rows = list(csv.DictReader((workdir / "summary.csv").open()))
    config = json.loads((workdir / "config.json").read_text())
    environment = json.loads((workdir / "environment.json").read_text())
    timing_file = workdir / "timing.json"
    timing = json.loads(timing_file.read_text()) if timing_file.exists() else {}
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        originals, names, skipped = saved["pixels"], saved["names"], saved["skipped"]

    sections = [
        _headline(rows, len(originals), len(skipped)),
        "<h2>Leakage against depth</h2>" + _charts(rows, folder),
        "<p>An early split is on the left, a late one on the right. High means that more can be read back. The dashed "
        "lines are what a guess without any features scores. Bars: 95 % intervals of the mean.</p>",
        "<h2>What was read back</h2>" + _grids(workdir, rows, originals, names),
        _synthesised(workdir),
        "<h2>Every number</h2>" + _table(rows),
        _HOW_TO_READ,
        "<h2>This run</h2>" + _this_run(environment, config, timing, skipped),
    ]
    return page.write(folder / "index.html", _title(rows), sections)


def _title(rows):
    return f"How much can be read back from {rows[0]['target']}?"


def _headline(rows, count, skipped):
    names = [r["attack"] for r in rows]
    shown = "dci" if "dci" in names else "dci_trained"
    at = [r for r in rows if r["attack"] == shown and r["defense"] == "none"]
    floor = max(float(r["psnr"]) for r in rows if r["split"] == ANY_SPLIT)
    text = f"<h1>{html.escape(_title(rows))}</h1><p class=lead>{count} private images, none of which any attack has seen"
    text += f" ({skipped} damaged files were skipped)." if skipped else "."
    if at:
        first, last = at[0], at[-1]
        text += (
            f" Data-free DCI reads them back in one forward pass with {float(first['psnr']):.1f} dB PSNR after "
            f"<code>{first['split']}</code> and {float(last['psnr']):.1f} dB after <code>{last['split']}</code>; "
            f"guessing without features gives {floor:.1f} dB."
        )
    return text + "</p>"


def _charts(rows, folder):
    parts = []
    for metric, label in (
        ("psnr", "PSNR, dB"),
        ("ssim", "SSIM"),
        ("label_agreement", "label agreement"),
    ):
        if any(r[metric] == "" for r in rows):  # a network without a head
            continue
        path = folder / f"leakage_{metric}.png"
        _chart(rows, metric, label, path)
        parts.append(
            f"<figure>{page.picture(path.read_bytes(), f'{label} against depth')}</figure>"
        )
    return f"<div class='grid smooth'>{''.join(parts)}</div>"


def _chart(rows, metric, label, path):
    splits = list(dict.fromkeys(r["split"] for r in rows if r["split"] != ANY_SPLIT))
    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    for attack, defense in dict.fromkeys(
        (r["attack"], r["defense"]) for r in rows if r["split"] != ANY_SPLIT
    ):
        line = [r for r in rows if (r["attack"], r["defense"]) == (attack, defense)]
        plain = defense == "none"
        axes.errorbar(
            [splits.index(r["split"]) for r in line],
            [float(r[metric]) for r in line],
            [float(r[f"{metric}_ci95"] or 0) for r in line],
            marker="o",
            markersize=4,
            capsize=2,
            color=page.COLORS.get(attack) if plain else None,
            linestyle="-" if plain else ":",
            label=attack if plain else f"{attack}, {defense}",
        )
    floors = [r for r in rows if r["split"] == ANY_SPLIT]
    for r, style in zip(floors, ("--", ":"), strict=False):
        axes.axhline(float(r[metric]), color="#64748b", linestyle=style, label=r["attack"])
    axes.set_xticks(range(len(splits)), splits, rotation=45, ha="right")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, framealpha=0.6)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


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
            label = page.NAMES.get(r["attack"], r["attack"])
            label += "" if r["defense"] == "none" else f", defense {r['defense']}"
            figures.append(
                (label, f"{float(r['psnr']):.1f} dB, SSIM {float(r['ssim']):.2f}", picture)
            )
        kib = next(float(r["bytes_sent"]) / 1024 for r in cells if r["split"] == split)
        parts.append(
            f"<h3>after <code>{split}</code> <small>{kib:.0f} KiB sent per image</small></h3>"
        )
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
        + (
            f"<p>Each was made for a label. That label is the answer of {shares} of them.</p>"
            if shares
            else ""
        )
        + page.picture(
            page.encoded(page.tile(images, 12 if len(images) > 12 else 4)), "synthesised images"
        )
    )


def _table(rows):
    columns = (
        ("split", "split"), ("attack", "attack"), ("defense", "defense"), ("n", "n"),
        ("psnr", "PSNR dB"), ("ssim", "SSIM"), ("psnr_worst5", "PSNR, worst 5 %"),
        ("label_agreement", "label agreement"), ("label_kept", "label kept"),
        ("top1", "top-1"), ("top1_original", "top-1, original"),
        ("bytes_sent", "bytes sent"), ("device_flops", "device FLOPs"),
    )  # fmt: skip
    head = "".join(f"<th>{title}</th>" for _, title in columns)
    body = []
    for r in rows:
        cells = []
        for field, _ in columns:
            value = html.escape(r[field])
            if r.get(f"{field}_ci95"):
                value += f" <small>± {html.escape(r[f'{field}_ci95'])}</small>"
            cells.append(f"<td>{value}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=wide><table><tr>{head}</tr>{''.join(body)}</table></div>"


def _this_run(environment, config, timing, skipped):
    lines = "".join(
        f"<tr><td>{html.escape(stage)}</td><td>{t['wall_s']:.0f} s</td><td>{t['compile_s']:.0f} s</td></tr>"
        for stage, t in timing.items()
    )
    total = sum(t["wall_s"] for t in timing.values())
    lines += f"<tr><td><b>all</b></td><td>{total:.0f} s</td><td></td></tr>"
    text = f"<pre>{html.escape(environment['command'])}</pre>"
    text += f"<table><tr><th>stage</th><th>wall</th><th>of which compiling</th></tr>{lines}</table>"
    if len(skipped):
        items = "".join(f"<li>{html.escape(str(s))}</li>" for s in skipped)
        text += f"<p>Damaged files that were skipped:</p><ul>{items}</ul>"
    for title, content in (("the config", config), ("the machine", environment)):
        text += f"<details><summary>{title}</summary><pre>{html.escape(json.dumps(content, indent=1))}</pre></details>"
    return text


_HOW_TO_READ = """<h2>How to read this</h2>
<ul>
<li><b>PSNR</b> is measured on pixels in [0, 1] with peak 1; above 20 dB a picture is usually recognisable, above 30 dB
it is close to the original. <b>SSIM</b> runs to 1. Neither says that nobody is recognised: look at the pictures.</li>
<li><b>Label agreement</b>: how often the network gives the reconstruction the label that it gives the original.
<b>Top-1</b>: how often it gives the reconstruction its true label, where labels are given.
<b>Label kept</b>: how often the features sent, after the defense, still give the label: what the defense costs.</li>
<li>The <b>floors</b> know nothing of the image: the mean of all, and another one at random. The <b>oracle</b>, where there
is one, is an attacker with real images of the same kind; the data-free attacks have none.</li>
<li>A <b>low score is a lower bound</b>, no proof of safety: another attacker may read more. Images differ; look at the
worst 5 %, not at the mean alone.</li>
<li>The attacks know the network and its weights, and do not adapt to a defense.</li>
</ul>"""


def again(workdir: Path) -> Path:
    """Make the report of a finished run anew, a classifier's or a generator's. Returns the page's path."""
    with (workdir / "summary.csv").open() as stream:
        codes = any(row["latent_cosine"] for row in csv.DictReader(stream))
    return report_codes.write(workdir) if codes else write(workdir)


def main(argv: list[str]) -> int:
    """The command line. Returns the exit code: 2 if no workdir given holds a finished run."""
    parser = argparse.ArgumentParser(
        prog="python -m dci_jax.report", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "workdirs", nargs="+", type=Path, help="one: its report again; several: together"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the joint report; default: beside the workdirs"
    )
    given = parser.parse_args(argv)
    finished = [w for w in given.workdirs if (w / "summary.csv").exists()]
    for workdir in given.workdirs:
        if workdir not in finished:
            print(
                f"{workdir} holds no finished run (no summary.csv), so it is left out.",
                file=sys.stderr,
            )
    if not finished:
        return 2
    try:
        if len(given.workdirs) == 1:
            print(again(finished[0]))
        else:
            print(joint.write(finished, given.out or joint.beside(finished)))
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        print(
            f"A file of {', '.join(map(str, finished))} is damaged or missing ({error!r}); give that run's command line "
            "again, which makes what is missing.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
