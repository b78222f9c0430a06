"""The page of recorded features whose images are not known: what was read back, and how well that explains them."""

import csv
import html
import json
from pathlib import Path

import numpy as np

from dci_jax.report import page

_SHOWN = 24


def write(workdir: Path) -> Path:
    """Make report/index.html of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    with (workdir / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    dump = json.loads((workdir / "config.json").read_text())["features"]
    title = f"What was sent from {rows[0]['target']} after {rows[0]['split']}"
    parts = [
        f"<h1>{html.escape(title)}</h1><p class=lead>{rows[0]['n']} examples of <code>{html.escape(dump)}</code> were read "
        "back. Their images are not known here, so nothing but your eye can say how near these come: look at them.</p>"
    ]
    for r in rows:
        with np.load(workdir / "evaluation" / r["attack"] / f"{r['split']} {r['defense']}.npz") as saved:
            images = saved["reconstruction"]
        some = images[: _SHOWN if images.shape[1] <= page.ENLARGED else _SHOWN // 2]
        label = page.label(r["attack"])
        parts.append(
            f"<figure>{page.picture(page.encoded(page.tile(some, 6)), label)}<figcaption><b>{html.escape(label)}</b>: "
            f"relative feature error {float(r['feature_error']):.3g}</figcaption></figure>"
        )
    columns = [("attack", "attack"), ("defense", "defense"), ("n", "n"), ("feature_error", "feature error")]
    parts += [
        page.table(rows, columns),
        "<p>The feature error is |F(x) - f|² / |f - mean f|² with what was read back for x: near 0, the reading explains "
        "all that was sent; that can be so for a wrong picture, too, where the features say little.</p>",
        page.this_run(workdir),
    ]
    return page.write(folder / "index.html", title, parts)
