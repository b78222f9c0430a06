"""The page of an audit: verdict, map, attackers, costs against leakage, pictures, every number, its limits."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dci_jax.report import attackers, evidence, labels, page, pdf
from dci_jax.report.attackers import base
from dci_jax.report.leakage_map import leakage_map, verdict
from dci_jax.report.leaks import POLICY, Policy
from dci_jax.report.pictures import most_exposed, strips
from dci_jax.report.verdict import LEVELS, MEASURES, Cell, adapting, cells, choice, front, weaker
from dci_jax.results import ANY_SPLIT, COSTS, photograph
from dci_jax.runtime.files import made

VERSION = 1  # of audit.json, as audit.schema.json describes it
_COLUMNS = (
    "split",
    "defense",
    "attack",
    "level",
    "leaking",
    "psnr",
    "ssim",
    "psnr_affine",
    "ssim_affine",
    "structure",
    "rank1",
    "rank1_structure",
    "label_agreement",
    "server_agreement",
    "server_accuracy",
    "bytes_coded",
)
_COST_TITLES = {
    "bytes_sent": "bytes as float32",
    "device_flops": "device FLOPs",
    "device_parameters": "device parameters",
    "batch_norms": "BatchNorm layers",
    "device_ms": "device, ms on this machine",
    "attack_ms": "reconstruction, ms on this machine",
}
_MISSING = {  # why a measure is null everywhere
    "lpips": "LPIPS is null: its weights were not given (--config.lpips.backbone and .linear).",
    "ms_ssim": "MS-SSIM is null: its five scales need images of 176 pixels.",
    "label_agreement": "Label agreement is null: the network has no head.",
    "top1": "Top-1 is null: the true labels were not given (--config.data.labels).",
}


def write(workdir: Path) -> Path:
    """Make report/index.html, audit.json and audit.csv of a finished run from its files. Returns the page's path."""
    return write_together([workdir], workdir / "report")


def write_together(workdirs: Sequence[Path], folder: Path) -> Path:
    """The same in `folder` for runs that differ in their seed alone, as one audit; the pictures are the first one's."""
    workdir = workdirs[0]
    made(folder)
    (folder / pdf.NAME).unlink(missing_ok=True)  # of an earlier page
    config = json.loads((workdir / "config.json").read_text())
    policy = Policy(**{name: config["audit"][name] for name in POLICY})
    with (workdir / "summary.csv").open() as stream:
        summary = list(csv.DictReader(stream))
    costs = {r["split"]: {name: float(r[name]) for name in COSTS} for r in summary if r["bytes_sent"]}
    known = attackers.read(workdir, config)
    found = cells(workdirs, policy, costs, known)
    known = known.able({(c.split, c.defense): c.leaking for c in found})
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        originals, names = saved["pixels"], saved["names"]
    chosen, table = choice(found, policy), _table(found)
    filed = evidence.values(workdir, config, found, len(names))
    seeds = [json.loads((w / "config.json").read_text())["seed"] for w in workdirs]
    data = {
        "version": VERSION,
        "policy": asdict(policy),
        "images": len(originals),
        "seeds": seeds,
        "cells": [_plain(c) for c in found],
    }
    data["choice"] = chosen and [chosen.split, chosen.defense]
    (folder / "audit.json").write_text(json.dumps(data, indent=1))
    with (folder / "audit.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    written = page.write(
        folder / "index.html",
        "audit.html.jinja",
        title=f"What can be reconstructed from the features of {summary[0]['target']}?",
        policy=policy,
        images=len(names),
        photographs=len({photograph(str(name)) for name in names}),
        seeds=seeds,
        spaced=config["num_splits"] if not config["splits"] and not config["features"] else 0,
        trained=config["defense"]["images"] or "no real image",
        verdict=verdict(found, chosen, policy),
        **filed,
        map=leakage_map(found, chosen, policy, [r for r in summary if r["split"] == ANY_SPLIT]),
        exposed=most_exposed(workdir, found, originals, names),
        attackers=_attackers(found, known),
        weak={attack: known.weak[attack] for attack in _bases(found) if known.weak.get(attack)},
        unjudged=[c for c in found if c.level == LEVELS[4]],
        adapted=adapting(found),
        weaker=weaker(found),
        fronts=_fronts(found, policy, folder),
        strips=strips(workdir, found, originals),
        defenses=_defenses(found),
        costs=_costs(workdir, costs),
        columns=(*_COLUMNS, *(("seeds_psnr_sd",) if any(c.between for c in found) else ())),
        table=table,
        missing=[text for measure, text in _MISSING.items() if all(c.leak(measure) is None for c in found)],
        runs=[page.this_run(w) for w in workdirs],
    )
    evidence.sign(folder)
    return written


def _bases(found):
    """The attacks without their adaptation, each once."""
    return list(dict.fromkeys(base(attack) for c in found for attack in c.attacks))


def _attackers(found, known):
    """[attack, share of images that leak where it does best]."""
    return [(labels.attack(a), page.percent(known.shown[a]) if a in known.shown else "") for a in _bases(found)]


def _fronts(found, policy, folder):
    parts = []
    for name, cost, title, log in (
        ("bytes", lambda c: c.bytes_coded, "payload bytes", True),
        ("accuracy", lambda c: 1 - c.kept[0], "share of the server's predictions lost", False),
    ):
        if name == "accuracy" and any(c.kept is None for c in found):
            continue
        drawing, axes = page.subplots(6.4, 4.6)
        best = front(found, cost)
        axes.scatter(
            [cost(c) for c in found], [c.leak("ssim_affine") for c in found], s=12, color="#94a3b8", label="all pairs"
        )
        axes.plot(
            [cost(c) for c in best], [c.leak("ssim_affine") for c in best], "o-", color="#c2410c", label="Pareto front"
        )
        for c in best[:: max(1, len(best) // 8)]:
            axes.annotate(
                f"{c.split}, {labels.defense(c.defense)}",
                (cost(c), c.leak("ssim_affine")),
                fontsize=6,
                rotation=20,
                xytext=(3, 3),
                textcoords="offset points",
            )
        axes.axhline(policy.ssim, color="#64748b", linestyle="--", linewidth=0.8, label="policy")
        axes.set_xscale("log" if log else "linear")
        axes.tick_params(axis="x", which="both", labelsize=7)
        axes.set_xlabel(title)
        axes.set_ylabel("SSIM after a fit, strongest attacker")
        parts.append(page.figure(drawing, axes, folder / f"front_{name}.png", f"leakage against {title}"))
    return parts


def _table(found):
    """One dict a row, of every cell and attack."""
    rows = []
    for c in found:
        for attack, measures in c.attacks.items():
            row = {"split": c.split, "defense": c.defense, "attack": attack, "level": c.level}
            row["leaking"] = _short(c.leaking[attack])
            for m in MEASURES:
                mean, low, high, worst = measures.get(m, ("", "", "", ""))
                row |= {
                    m: _short(mean),
                    f"{m}_low": _short(low),
                    f"{m}_high": _short(high),
                    f"{m}_worst5": _short(worst),
                }
            row["seeds_psnr_sd"] = _short(c.between.get(attack, ""))
            row["server_agreement"] = _short(c.kept[0] if c.kept else "")
            row["server_accuracy"] = _short(c.accuracy[0] if c.accuracy else "")
            row["bytes_coded"] = round(c.bytes_coded)
            rows.append(row | {name: c.costs[name] for name in COSTS})
    return rows


def _short(value):
    return value if value == "" else round(value, 4)


def _plain(cell: Cell):
    return asdict(cell) | {"leak": {m: cell.leak(m) for m in MEASURES}, "label_told": cell.label_told}


def _defenses(found):
    """[defense, unit of its strength, source] of each kind that was audited."""
    kinds = dict.fromkeys(c.defense.partition(" ")[0] for c in found)
    rows = [(kind, labels.DEFENSES.get(kind)) for kind in kinds]
    return [(kind, row.unit, row.source) for kind, row in rows if row]


def _costs(workdir, costs):
    """(titles, lines): bytes, operations and parameters of each split for one image, and the milliseconds measured."""
    file = workdir / "evaluation" / "latency.json"
    taken = json.loads(file.read_text()) if file.exists() else {}
    times = ("device_ms", "attack_ms")
    titles = ["split", *(_COST_TITLES.get(name, name) for name in (*COSTS, *times))]
    lines = [
        [split, *(f"{cost[c]:,g}" for c in COSTS), *(f"{taken[split][t]:.2f}" if split in taken else "" for t in times)]
        for split, cost in costs.items()
    ]
    return titles, lines
