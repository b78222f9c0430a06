"""The numbers of a run as files: results.jsonl, one line an image, and summary.csv, one row a cell. Without JAX."""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from dci_jax.runtime.files import replacing

ANY_SPLIT = "any"  # what the floors, which see no features, have for a split
VISIBLE = 1 / 255  # root mean square change of a pixel: one level of 8 bits
COSTS = ("bytes_sent", "device_flops", "depth", "device_parameters", "batch_norms")
METRICS = (
    "mse",
    "psnr",
    "ssim",
    "ms_ssim",
    "lpips",
    "rank1",
    "rank5",
    "label_agreement",
    "label_kept",
    "top1",
    "top1_original",
    "latent_cosine",
    "latent_error",
    "psnr_sent",
    "bytes_coded",
    "top1_sent",
    "feature_error",
)
SHARES = (
    "rank1",
    "rank5",
    "label_agreement",
    "label_kept",
    "top1",
    "top1_original",
    "top1_sent",
)  # 0 or 1 for each image


def lines(
    result: dict[str, np.ndarray], names: Iterable[str], **cell: str | int
) -> list[dict[str, str | float | None]]:
    """The rows of results.jsonl for one cell: target, split, attack, defense and seed are given."""
    rows = []
    for i, name in enumerate(names):
        values = {m: float(result[m][i]) if m in result else np.nan for m in METRICS}
        values = {m: None if np.isnan(v) else round(v, 6) for m, v in values.items()}
        rows.append(cell | {"image": name} | values)
    return rows


def write(rows: list[dict], costs: dict[str, dict[str, int]], workdir: Path) -> None:
    """results.jsonl, and summary.csv with n, mean, 95 % interval (`half_interval`) and worst 5 % per cell.

    What is not known (no head, no labels) is null in the one and empty in the other.

    "Worst" is the defender's worst: the 95th percentile of PSNR and SSIM over the images.

    Args:
      rows: from `lines`.
      costs: as from `costs`.
      workdir: where both files go.
    """
    with replacing(workdir / "results.jsonl") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    cells = {}
    for row in rows:
        cell = tuple(row[field] for field in ("target", "split", "attack", "defense"))
        cells.setdefault(cell, []).append(row)
    table = []
    for (target, split, attack, defense), members in cells.items():
        line = dict(target=target, split=split, attack=attack, defense=defense, n=len(members))
        for metric in METRICS[1:]:
            values = np.array([row[metric] for row in members], float)  # None becomes NaN
            line[metric] = round(float(values.mean()), 4)
            names = [row["image"] for row in members]
            line[f"{metric}_ci95"] = round(half_interval(values, names, metric in SHARES), 4)
            if metric in ("psnr", "ssim"):
                line[f"{metric}_worst5"] = round(float(np.quantile(values, 0.95)), 4)
        line = {name: "" if value != value else value for name, value in line.items()}  # NaN
        table.append(line | costs.get(split, dict.fromkeys(COSTS, "")))
    with replacing(workdir / "summary.csv") as stream:
        writer = csv.DictWriter(stream, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def half_interval(values: np.ndarray, names: Sequence[str], share: bool) -> float:
    """Half the width of the 95 % interval of the mean, by Student's t; NaN for one image alone.

    Args:
      values: one for each image.
      names: of the images. Tiles of one photograph, "chelsea r0c1", are not independent and count as one.
      share: the values are 0 or 1: then at least half of Wilson's interval (1927), which is not 0 where all agree.
    """
    whole = np.array([re.sub(r" r\d+c\d+$", "", name) for name in names])
    means = np.array([values[whole == name].mean() for name in dict.fromkeys(whole)])
    count = len(means)
    if count < 2:
        return np.nan
    half = scipy.stats.t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count)
    if share:
        z, p = scipy.stats.norm.ppf(0.975), values.mean()
        wilson = z * np.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
        half = np.maximum(half, wilson)  # NaN stays
    return float(half)
