"""The page of recorded features whose images are not known: their reconstructions, and how well these explain them."""

import csv
import json
from pathlib import Path

import numpy as np

from dci_jax.report import labels, page

_SHOWN = 24
_COLUMNS = (("attack", "attack"), ("defense", "defense"), ("n", "n"), ("feature_error", "feature error"))


def write(workdir: Path) -> Path:
    """Make report/index.html of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    with (workdir / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    pictures = []
    for r in rows:
        with np.load(workdir / "evaluation" / r["attack"] / f"{r['split']} {r['defense']}.npz") as saved:
            images = saved["reconstruction"]
        some = images[: _SHOWN if images.shape[1] <= page.ENLARGED else _SHOWN // 2]
        label, error = labels.attack(r["attack"]), f"relative feature error {float(r['feature_error']):.3g}"
        pictures.append(page.picture(page.encoded(page.tile(some, 6)), label, label, [error]))
    return page.write(
        folder / "index.html",
        "recorded.html.jinja",
        title=f"Recorded features of {rows[0]['target']} after {rows[0]['split']}",
        count=rows[0]["n"],
        file=json.loads((workdir / "config.json").read_text())["features"],
        pictures=pictures,
        rows=rows,
        columns=_COLUMNS,
        run=page.this_run(workdir),
    )
