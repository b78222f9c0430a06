"""Many runs -> one page: leakage against depth for many networks, attack x defense tables, what differs.

Runs that differ in their seed alone are averaged; their spread is shown instead of the interval of one.
"""

import csv
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from dci_jax.report import page
from dci_jax.results import ANY_SPLIT, CELL
from dci_jax.runtime.files import differences, replacing

_METRICS = (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("label_agreement", "label agreement"))
_CELL = ("run", "target", *CELL)


def beside(workdirs: Sequence[Path]) -> Path:
    """The default folder of a joint report: in the folder that holds all workdirs."""
    return Path(os.path.commonpath([w.absolute() for w in workdirs])) / "report"


def write(workdirs: Sequence[Path], folder: Path) -> Path:
    """Make the page and `joint.csv` in `folder` from the files of finished runs. Returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = names(workdirs)
    rows = together(
        [
            {"run": run, **row}
            for workdir, run in zip(workdirs, runs, strict=True)
            for row in csv.DictReader((workdir / "summary.csv").open())
        ]
    )
    with replacing(folder / "joint.csv") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    charts, colors = _charts(rows, folder)
    return page.write(
        folder / "index.html",
        "joint.html.jinja",
        title=f"{len(workdirs)} runs compared",
        charts=charts,
        colors=colors,
        splits=_splits(rows),
        defenses=_defenses(rows),
        runs=[
            (os.path.relpath(workdir.absolute() / "report" / "index.html", folder.absolute()), workdir, run)
            for workdir, run in zip(workdirs, runs, strict=True)
        ],
    )


def names(workdirs: Sequence[Path]) -> list[str]:
    """What is special in each run: the network, and the fields in which their configs differ, but for the seed."""
    configs = [json.loads((w / "config.json").read_text()) for w in workdirs]
    fields = sorted({f for c in configs[1:] for f in differences(configs[0], c)} - {"seed"})
    targets = [next(csv.DictReader((w / "summary.csv").open()))["target"] for w in workdirs]
    result = []
    for config, target in zip(configs, targets, strict=True):
        values = [f"{f}={_at(config, f)}" for f in fields if not f.startswith("target.")]
        several = len(set(targets)) > 1 or not values
        result.append(", ".join([target] * several + values))
    return result


def together(rows: list[dict]) -> list[dict]:
    """One row per cell: means over the seeds, how many they are ("runs"), and PSNR's spread over them."""
    cells = {}
    for row in rows:
        cells.setdefault(tuple(row[field] for field in _CELL), []).append(row)
    result = []
    for cell, members in cells.items():
        mean = dict(zip(_CELL, cell, strict=True)) | {"runs": len(members)}
        for field in members[0]:
            if field in _CELL:
                continue
            values = [float(m[field]) for m in members if m.get(field)]
            mean[field] = round(statistics.mean(values), 4) if len(values) == len(members) else ""
        for metric, _ in _METRICS:
            values = [float(m[metric]) for m in members if m[metric]]
            mean[f"{metric}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else ""
        result.append(mean)
    return result


def _at(config, field):
    for name in field.split("."):
        config = config.get(name, "") if isinstance(config, dict) else ""
    return config


def _plain(rows, attack):
    return [r for r in rows if r["attack"] == attack and r["defense"] == "none"]


def _charts(rows, folder):
    """(pictures, run -> its color in them)."""
    import matplotlib

    parts = []
    names = [r["attack"] for r in rows if r["split"] != ANY_SPLIT]
    attack = next((name for name in ("dci", "dci_trained") if name in names), names[0])
    names = list(dict.fromkeys(r["run"] for r in _plain(rows, attack)))
    palette = matplotlib.colormaps["turbo"].resampled(len(names) + 2)
    colors = {run: matplotlib.colors.to_hex(palette(i + 1)) for i, run in enumerate(names)}
    for metric, label in _METRICS:
        shown = [r for r in _plain(rows, attack) if r[metric] != ""]
        if not shown:
            continue
        figure, axes = page.subplots()
        for run, color in colors.items():
            line = [r for r in shown if r["run"] == run]
            depths = [r.get("depth") or (i + 1) / len(line) for i, r in enumerate(line)]
            bars = page.bars(line, metric)
            for i, r in enumerate(line):
                bars[:, i] = r[f"{metric}_sd"] or bars[:, i]
            axes.errorbar(depths, [r[metric] for r in line], bars, marker="o", ms=4, capsize=2, color=color)
        baselines = [r[metric] for r in rows if r["split"] == ANY_SPLIT and r[metric] != ""]
        if baselines:
            axes.axhline(max(baselines), color="#64748b", linestyle="--")
        axes.set_xlabel("depth of the split")
        axes.set_ylabel(f"{label} ({attack})")
        parts.append(page.figure(figure, axes, folder / f"joint_{metric}.png", label, legend=False))
    return parts, colors


def _splits(rows):
    """(head, lines): runs and attacks down, splits across."""
    cells = [r for r in rows if r["split"] != ANY_SPLIT and r["defense"] == "none"]
    splits = list(dict.fromkeys(r["split"] for r in cells))
    lines = []
    for run, attack in dict.fromkeys((r["run"], r["attack"]) for r in cells):
        line = {r["split"]: r for r in cells if (r["run"], r["attack"]) == (run, attack)}
        lines.append([run, attack, *(_text(line.get(split)) for split in splits)])
    return ["run", "attack", *splits], lines


def _defenses(rows):
    """[run, head, lines] of each run with a defense: splits and attacks down, defenses across."""
    defended = {r["run"] for r in rows if r["defense"] != "none"}
    cells = [r for r in rows if r["run"] in defended and r["split"] != ANY_SPLIT]
    tables = []
    for run in dict.fromkeys(r["run"] for r in cells):
        here = [r for r in cells if r["run"] == run]
        kinds = list(dict.fromkeys(r["defense"] for r in here))
        lines = []
        for split, attack in dict.fromkeys((r["split"], r["attack"]) for r in here):
            line = {r["defense"]: r for r in here if (r["split"], r["attack"]) == (split, attack)}
            lines.append([split, attack, *(_text(line.get(kind), agreement=True) for kind in kinds)])
        tables.append((run, ["split", "attack", *kinds], lines))
    return tables


def _text(row, agreement=False):
    if row is None:
        return ""
    text = f"{row['psnr']:.1f}" + (f" ± {row['psnr_sd']:.1f}" if row["psnr_sd"] != "" else "")
    if agreement and row["label_agreement"] != "":
        text += f" ({row['label_agreement']:.2f}, {row['server_agreement']:.2f})"
    return text
