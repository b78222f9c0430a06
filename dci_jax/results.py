"""The numbers of a run as files: results.jsonl, one line an image, and summary.csv, one row a cell. Without JAX."""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import scipy.special

from dci_jax.runtime.files import replacing

ANY_SPLIT = "any"  # what the baselines, which see no features, have for a split
VISIBLE = 1 / 255  # root mean square change of a pixel: one level of 8 bits
# What a cell is: the attack by its name in the config, and what that says; the defense by its label, and what that says.
CELL = ("split", "attack", "source", "adapted", "starts_from", "defense", "strength", "num_queries")
COSTS = ("bytes_sent", "device_flops", "depth", "device_parameters", "batch_norms")
METRICS = (
    "mse",
    "psnr",
    "ssim",
    "psnr_affine",
    "ssim_affine",
    "structure",
    "structure_part",
    "ms_ssim",
    "lpips",
    "rank1",
    "rank5",
    "rank1_structure",
    "label_agreement",
    "server_agreement",
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
    "rank1_structure",
    "label_agreement",
    "server_agreement",
    "top1",
    "top1_original",
    "top1_sent",
)  # 0 or 1 for each image


def lines(
    result: dict[str, np.ndarray], names: Iterable[str], **cell: str | float
) -> list[dict[str, str | float | None]]:
    """The rows of results.jsonl for one cell, whose target, seed and `CELL` are given."""
    rows = []
    for i, name in enumerate(names):
        values = {m: float(result[m][i]) if m in result else np.nan for m in METRICS}
        values = {m: None if np.isnan(v) else round(v, 6) for m, v in values.items()}
        rows.append(cell | {"image": name} | values)
    return rows


def write(rows: list[dict], costs: dict[str, dict[str, int]], workdir: Path) -> None:
    """results.jsonl, and summary.csv with n, mean and 95 % interval (`interval`) of each measure, one row a cell.

    What is not known (no head, no labels) is null in the one and empty in the other. "psnr" is the mean of the images' dB,
    each at most 100; "psnr_mean_mse" is the PSNR of their mean squared error, which some papers give. "worst5" is the
    defender's worst: the 95th percentile over the images.

    Args:
      rows: from `lines`.
      costs: as from `costs`.
      workdir: where both files go.
    """
    with replacing(workdir / "results.jsonl") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    cells = {}
    for row in rows:
        cells.setdefault((row["target"], *(row[column] for column in CELL)), []).append(row)
    table = []
    for cell, members in cells.items():
        line = dict(zip(("target", *CELL), cell, strict=True), n=len(members))
        names = [row["image"] for row in members]
        for metric in METRICS:
            values = np.array([row[metric] for row in members], float)  # None becomes NaN
            digits = 8 if metric == "mse" else 4
            line[metric] = round(float(values.mean()), digits)
            if metric == "mse":
                line["psnr_mean_mse"] = round(float(-10 * np.log10(max(values.mean(), 1e-10))), 4)
            low, high = interval(values, names, metric in SHARES)
            line |= {f"{metric}_low": round(low, digits), f"{metric}_high": round(high, digits)}
            if metric in ("psnr", "ssim"):
                line[f"{metric}_worst5"] = round(float(np.quantile(values, 0.95)), 4)
        line = {name: "" if value != value else value for name, value in line.items()}  # NaN
        table.append(line | costs.get(line["split"], dict.fromkeys(COSTS, "")))
    with replacing(workdir / "summary.csv") as stream:
        writer = csv.DictWriter(stream, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def interval(values: np.ndarray, names: Sequence[str], share: bool) -> tuple[float, float]:
    """(low, high): the 95 % interval of the mean, by Student's t over photographs; NaN for one photograph alone.

    Args:
      values: one for each image.
      names: of the images. Tiles of one photograph, "chelsea r0c1", are not independent and count as one.
      share: the values are 0 or 1: then within 0 and 1, and at least Wilson's interval (1927), which has a width where
        all agree.
    """
    values = np.asarray(values, float)
    means = _of_photographs(values, names)
    count, mean = len(means), values.mean()
    if count < 2 or np.isnan(mean):
        return np.nan, np.nan
    half = scipy.special.stdtrit(count - 1, 0.975) * means.std(ddof=1) / np.sqrt(count)
    if not share:
        return float(mean - half), float(mean + half)
    low, high = wilson(mean, count)
    return float(min(low, max(0.0, mean - half))), float(max(high, min(1.0, mean + half)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Both ends of the 95 % interval of a share of `count` (Wilson, 1927), in [0, 1]."""
    z = scipy.special.ndtri(0.975)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def photograph(name: str) -> str:
    """The photograph that an image is a tile of, "chelsea" of "chelsea r0c1"; the name itself of any other."""
    return re.sub(r" r\d+c\d+$", "", name)


def _of_photographs(values, names):
    """The mean of each photograph's tiles."""
    whole = np.array([photograph(name) for name in names])
    return np.array([values[whole == name].mean() for name in dict.fromkeys(whole)])
