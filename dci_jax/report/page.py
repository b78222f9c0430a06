"""One self-contained HTML page from a template: its pictures and charts inside it, its numbers rounded."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from dci_jax.report import labels
from dci_jax.results import ANY_SPLIT
from dci_jax.runtime.files import replacing

ENLARGED = 64  # pixels a side, at least, for a small image


@dataclass(frozen=True)
class Picture:
    """A picture that a page holds; macros.html.jinja shows it.

    Attributes:
      source: its content as a data URL.
      alt: what it shows, for those who do not see it.
      label: below it, in bold.
      lines: below the label.
    """

    source: str
    alt: str
    label: str = ""
    lines: tuple[str, ...] = ()


def write(path: Path, template: str, **values: Any) -> Path:
    """Write the page that a file of `templates` makes of the values. Returns its path."""
    text = _TEMPLATES.get_template(template).render(**values)
    with replacing(path) as stream:
        stream.write(text)
    return path


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """[N, H, W, C], C 3 or 1 -> one picture [h, w, 3], N side by side in rows of so many, with a thin gap."""
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


def picture(content: bytes, alt: str, label: str = "", lines: Sequence[str] = ()) -> Picture:
    """A PNG or JPEG as a `Picture`."""
    kind = "png" if content[:4] == b"\x89PNG" else "jpeg"
    data = base64.b64encode(content).decode()
    return Picture(f"data:image/{kind};base64,{data}", alt, label, tuple(lines))


def depth_chart(rows: list[dict], metric: str, title: str, path: Path) -> Picture:
    """A figure of one metric against the split points, a line for each attack and defense; dashed: the baselines.

    Args:
      rows: of summary.csv.
      metric: a column of it.
      title: of the axis.
      path: where the PNG is left, too.
    """
    at = [r for r in rows if r["split"] != ANY_SPLIT]
    splits = list(dict.fromkeys(r["split"] for r in at))
    drawing, axes = subplots()
    for attack, defense in dict.fromkeys((r["attack"], r["defense"]) for r in at):
        line, plain = [r for r in at if (r["attack"], r["defense"]) == (attack, defense)], defense == "none"
        axes.errorbar(
            [splits.index(r["split"]) for r in line],
            [float(r[metric]) for r in line],
            bars(line, metric),
            marker="o",
            markersize=4,
            capsize=2,
            color=labels.color(attack) if plain else None,
            linestyle="-" if plain else ":",
            label=attack if plain else f"{attack}, {defense}",
        )
    baselines = [r for r in rows if r["split"] == ANY_SPLIT]
    for r, style in zip(baselines, ("--", ":", "-."), strict=False):
        axes.axhline(float(r[metric]), color="#64748b", linestyle=style, label=r["attack"])
    axes.set_xticks(range(len(splits)), splits, rotation=45, ha="right")
    axes.set_ylabel(title)
    return figure(drawing, axes, path, title)


def bars(rows: Sequence[dict], metric: str) -> np.ndarray:
    """Lengths [2, N] of the error bars below and above the means of a column of summary.csv; 0 where unknown."""
    ends = [[abs(float(r[f"{metric}_{end}"] or r[metric]) - float(r[metric])) for r in rows] for end in ("low", "high")]
    return np.array(ends)


def subplots(width: float = 4.6, height: float = 3.6):
    """A matplotlib figure of so many inches, and its axes."""
    from matplotlib.figure import Figure  # a third of a second that only a page needs

    drawing = Figure(figsize=(width, height))
    return drawing, drawing.subplots()


def figure(drawing, axes, path: Path, alt: str, legend: bool = True) -> Picture:
    """A matplotlib figure, finished, left as PNG and as a `Picture`: an SVG whose ink is light in the dark, if it is small."""
    axes.grid(alpha=0.25)
    if legend:
        axes.legend(fontsize=7, framealpha=0)
    drawing.tight_layout()
    drawing.savefig(path, dpi=150)
    svg = _svg(drawing)
    if len(svg) > LARGEST_SVG:
        return picture(path.read_bytes(), alt)
    return Picture(f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}", alt)


def _svg(drawing):
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dci_jax"}):
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub("(stroke|fill): #000000", r"\1: currentColor", stream.getvalue().decode())
    return text.replace("<defs>", f"<style>{_INK}</style><defs>", 1).encode()


def rounded(value: str, field: str) -> str:
    """A number of summary.csv as a page shows it: dB with one decimal, other fractions with two; text as it is."""
    try:
        return f"{float(value):.1f}" if field.startswith("psnr") else f"{float(value):.2f}" if "." in value else value
    except ValueError:
        return value


def fixed(value: float | str | None, digits: int = 1) -> str:
    """A number with so many decimals; a dash where it is not known."""
    return "–" if value is None else f"{float(value):.{digits}f}"


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage, "25%" of 0.25."""
    return f"{share:.{digits}%}"


def this_run(workdir: Path, skipped: Sequence[str] = ()) -> dict[str, Any]:
    """What the macro `this_run` shows: the command, the times, damaged files, the config and the machine."""
    environment, config = (json.loads((workdir / f"{name}.json").read_text()) for name in ("environment", "config"))
    file = workdir / "timing.json"
    return {
        "command": environment["command"],
        "stages": json.loads(file.read_text()) if file.exists() else {},
        "skipped": [str(s) for s in skipped],
        "files": {"the config": json.dumps(config, indent=1), "the machine": json.dumps(environment, indent=1)},
    }


LARGEST_SVG = 300_000  # bytes: of thousands of points a PNG is smaller
_INK = (
    "svg { color: #0f172a; font-family: system-ui, sans-serif } text { fill: currentColor }"
    "@media (prefers-color-scheme: dark) { svg { color: #e2e8f0 } }"
)
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"rounded": rounded, "fixed": fixed, "percent": percent}
_TEMPLATES.filters |= {"attack": labels.attack, "defense": labels.defense, "baseline": labels.BASELINES.get}
