"""The look of the reports: one self-contained HTML page, its pictures inside it, and a colour for each attack."""

import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

from dci_jax.files import replacing

COLORS = {
    "dci": "#c2410c",
    "dci+refine": "#7c3aed",
    "dci_shared": "#be123c",
    "dci_trained": "#9f1239",
    "dci_trained+refine": "#4338ca",
    "oracle": "#15803d",
    "inverse_network": "#0369a1",
    "rmle": "#64748b",
    "dci+gauss_newton": "#0f766e",
    "dci_trained+gauss_newton": "#115e59",
    "gauss_newton": "#92400e",
    "deepinversion": "#a16207",
    "deep_image_prior": "#be185d",
}
NAMES = {
    "dci": "DCI, one forward pass",
    "dci+refine": "DCI, then refined white-box",
    "dci_shared": "DCI, one chain for all splits, one forward pass",
    "dci_trained": "DCI with trained inverters, one forward pass",
    "dci_trained+refine": "DCI with trained inverters, then refined white-box",
    "inverse_network": "inverse network (black box)",
    "rmle": "rMLE from a blank image",
    "dci+gauss_newton": "DCI, then Gauss-Newton",
    "dci_trained+gauss_newton": "DCI with trained inverters, then Gauss-Newton",
    "gauss_newton": "Gauss-Newton from the prior's mean",
    "deepinversion": "rMLE with BatchNorm statistics as its prior",
    "deep_image_prior": "deep image prior",
    "oracle": "oracle: learned from real images",
    "mean_image": "floor: mean image",
    "random_image": "floor: another private image",
}
ENLARGED = 64  # pixels a side, at least, for a small image


def write(path: Path, title: str, sections: list[str]) -> Path:
    """Write the page with a title and HTML sections. Returns its path."""
    body = "\n".join(sections)
    with replacing(path) as stream:
        stream.write(_PAGE.replace("{title}", html.escape(title)).replace("{body}", body))
    return path


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """[N, H, W, 3] -> one picture, N side by side in rows of so many, with a thin gap."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    gap, lines = 2, -(-count // columns)
    canvas = np.full(
        (lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8
    )
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


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1e293b; max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } .lead { font-size: 1.1rem; } small { color: #64748b; font-weight: normal; }
img { max-width: 100%; height: auto; image-rendering: pixelated; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 1rem; }
.smooth img { image-rendering: auto; } figure { margin: 0; } figure img { width: 100%; } figcaption { font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid #e2e8f0; text-align: left; white-space: nowrap; }
pre { background: #f1f5f9; padding: .7rem; overflow-x: auto; white-space: pre-wrap; word-break: break-word; }
</style></head><body>
{body}
</body></html>
"""
