"""The look of the reports: one self-contained HTML page, its pictures and charts inside it, its tables."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from dci_jax.attacks.registry import find
from dci_jax.results import ANY_SPLIT
from dci_jax.runtime.files import replacing

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FLOORS = {
    "mean_image": "baseline: mean of the other images",
    "random_image": "baseline: another private image",
    "thumbnail": "baseline: 4 x 4 of the image's own colors",
    "mean_code": "baseline: the prior's mean",
    "random_code": "baseline: another private code",
}
ENLARGED = 64  # pixels a side, at least, for a small image


def write(path: Path, title: str, sections: list[str], script: str = "") -> Path:
    """Write the page with a title, HTML sections and a script, if need be. Returns its path."""
    body = "<main>" + "\n".join(sections) + "</main>" + script
    with replacing(path) as stream:
        stream.write(_PAGE.replace("{title}", html.escape(title)).replace("{body}", body))
    return path


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """[N, H, W, 3] -> one picture, N side by side in rows of so many, with a thin gap."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    gap, lines = 2, -(-count // columns)
    canvas = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        canvas[y : y + height, x : x + width] = image
    return canvas


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG; a JPEG for a large picture, which would make the page tens of megabytes."""
    scale = max(1, ENLARGED * 6 // max(pixels.shape[:2]))
    image = Image.fromarray(pixels)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    kind = {"format": "JPEG", "quality": 92} if image.width > 800 else {"format": "PNG"}
    image.save(stream, **kind)
    return stream.getvalue()


def picture(content: bytes, alt: str) -> str:
    """A PNG or JPEG as an <img> that holds its own data."""
    kind = "png" if content[:4] == b"\x89PNG" else "jpeg"
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'


def label(name: str) -> str:
    """What an attack, "oracle" or a baseline is called in a report."""
    return FLOORS[name] if name in FLOORS else find(name).label


def depth_chart(rows: list[dict], metric: str, title: str, path: Path) -> str:
    """A figure of one metric against the split points, a line for each attack and defense; dashed: the baselines.

    Args:
      rows: of summary.csv.
      metric: a column of it.
      title: of the axis.
      path: where the PNG is left, too.
    """
    at = [r for r in rows if r["split"] != ANY_SPLIT]
    splits = list(dict.fromkeys(r["split"] for r in at))
    drawing, axes = plt.subplots(figsize=(4.6, 3.6))
    for attack, defense in dict.fromkeys((r["attack"], r["defense"]) for r in at):
        line, plain = [r for r in at if (r["attack"], r["defense"]) == (attack, defense)], defense == "none"
        axes.errorbar(
            [splits.index(r["split"]) for r in line],
            [float(r[metric]) for r in line],
            bars(line, metric),
            marker="o",
            markersize=4,
            capsize=2,
            color=find(attack).color if plain else None,
            linestyle="-" if plain else ":",
            label=attack if plain else f"{attack}, {defense}",
        )
    floors = [r for r in rows if r["split"] == ANY_SPLIT]
    for r, style in zip(floors, ("--", ":", "-."), strict=False):
        axes.axhline(float(r[metric]), color="#64748b", linestyle=style, label=r["attack"])
    axes.set_xticks(range(len(splits)), splits, rotation=45, ha="right")
    axes.set_ylabel(title)
    return figure(drawing, axes, path, title)


def bars(rows: Sequence[dict], metric: str) -> np.ndarray:
    """Lengths [2, N] of the error bars below and above the means of a column of summary.csv; 0 where they are unknown."""
    ends = [[abs(float(r[f"{metric}_{end}"] or r[metric]) - float(r[metric])) for r in rows] for end in ("low", "high")]
    return np.array(ends)


def figure(drawing, axes, path: Path, alt: str) -> str:
    """A matplotlib figure, finished, left as PNG and as HTML that holds it."""
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, framealpha=0.6)
    drawing.tight_layout()
    drawing.savefig(path, dpi=150)
    plt.close(drawing)
    return f"<figure>{picture(path.read_bytes(), alt)}</figure>"


def table(rows: list[dict], columns: Sequence[tuple[str, str]], name: str = "numbers") -> str:
    """Rows of summary.csv with their 95 % intervals; `columns` are (field, title), `name` is read aloud."""
    lines = ["".join(f"<th>{title}</th>" for _, title in columns)]
    for r in rows:
        cells = []
        for field, _ in columns:
            value = html.escape(rounded(field, r[field]))
            if r.get(f"{field}_low"):
                low, high = (html.escape(rounded(field, r[f"{field}_{end}"])) for end in ("low", "high"))
                value += f" <small>({low} to {high})</small>"
            cells.append(f"<td>{value}</td>")
        lines.append("".join(cells))
    body = "</tr><tr>".join(lines)
    return (
        f"<div class=wide role=region tabindex=0 aria-label='{html.escape(name)}'><table><tr>{body}</tr></table></div>"
    )


def rounded(field: str, value: str) -> str:
    """A number of summary.csv as a page shows it: dB with one decimal, other fractions with two; any other text as it is."""
    try:
        return f"{float(value):.1f}" if field.startswith("psnr") else f"{float(value):.2f}" if "." in value else value
    except ValueError:
        return value


def this_run(workdir: Path, skipped: Sequence[str] = ()) -> str:
    """The command, how long each stage took, damaged files that were skipped, the config and the machine."""
    environment, config = (json.loads((workdir / f"{name}.json").read_text()) for name in ("environment", "config"))
    file = workdir / "timing.json"
    stages = json.loads(file.read_text()) if file.exists() else {}
    lines = "".join(
        f"<tr><td>{html.escape(stage)}</td><td>{t['wall_s']:.0f} s</td><td>{t['compile_s']:.0f} s</td></tr>"
        for stage, t in stages.items()
    )
    total = sum(t["wall_s"] for t in stages.values())
    lines += f"<tr><td><b>all</b></td><td>{total:.0f} s</td><td></td></tr>"
    text = f"<h2>This run</h2><pre>{html.escape(environment['command'])}</pre>"
    text += f"<table><tr><th>stage</th><th>wall</th><th>of which compiling</th></tr>{lines}</table>"
    if len(skipped):
        items = "".join(f"<li>{html.escape(str(s))}</li>" for s in skipped)
        text += f"<p>Damaged files that were skipped:</p><ul>{items}</ul>"
    for title, content in (("the config", config), ("the machine", environment)):
        text += f"<details><summary>{title}</summary><pre>{html.escape(json.dumps(content, indent=1))}</pre></details>"
    return text


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root { color-scheme: light dark; --ink: #1e293b; --paper: #fff; --soft: #475569; --line: #cbd5e1; --box: #f1f5f9;
  --read: #fca5a5; --some: #fed7aa; --doubt: #fef9c3; --low: #bbf7d0; --unknown: #cbd5e1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --paper: #0f172a; --soft: #cbd5e1; --line: #475569;
  --box: #1e293b; --read: #7f1d1d; --some: #9a3412; --doubt: #713f12; --low: #14532d; --unknown: #475569; } .smooth img { background: #fff; } a { color: #93c5fd; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } .lead { font-size: 1.1rem; } small { color: var(--soft); font-weight: normal; }
.first { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; } .first > div { max-width: 100%; }
.first > figure { flex: 0 1 auto; } .first > figure img { width: auto; } .map td { text-align: center; line-height: 1.1; }
.read { background: var(--read); } .some { background: var(--some); } .unknown { background: var(--unknown); }
.doubt { background: var(--doubt); } .low { background: var(--low); }
.key { padding: 0 .3rem; font-weight: normal; } .chosen { outline: 3px solid var(--ink); outline-offset: -3px; }
.warn { border-left: 4px solid #dc2626; padding-left: .7rem; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
@media print { body { max-width: none; font-size: 11px; } details, #filter, label { display: none; } h2 { break-after: avoid; } }
img { max-width: 100%; height: auto; image-rendering: pixelated; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 1rem; }
.smooth img { image-rendering: auto; } figure { margin: 0; } figure img { width: 100%; } figcaption { font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
pre { background: var(--box); padding: .7rem; overflow-x: auto; white-space: pre-wrap; word-break: break-word; }
</style></head><body>
{body}
</body></html>
"""
