"""The page of an audit: verdict, map, attackers, costs against leakage, pictures, every number, its limits."""

import csv
import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from dci_jax.defenses.registry import DEFENSES
from dci_jax.report import attackers, page, script
from dci_jax.report.attackers import base
from dci_jax.report.leakage_map import leakage_map, verdict
from dci_jax.report.leaks import POLICY, Policy
from dci_jax.report.pictures import most_exposed, named, strips
from dci_jax.report.verdict import LEVELS, MEASURES, Cell, adapting, cells, choice, front, weaker
from dci_jax.results import ANY_SPLIT, COSTS, photograph
from dci_jax.runtime.files import made


def write(workdir: Path) -> Path:
    """Make report/index.html, audit.json and audit.csv of a finished run from its files alone. Returns the page's path."""
    return write_together([workdir], workdir / "report")


def write_together(workdirs: Sequence[Path], folder: Path) -> Path:
    """The same in `folder` for runs that differ in their seed alone, as one audit; the pictures are the first one's."""
    workdir = workdirs[0]
    made(folder)
    config = json.loads((workdir / "config.json").read_text())
    policy = Policy(**{name: config["audit"][name] for name in POLICY})
    with (workdir / "summary.csv").open() as stream:
        summary = list(csv.DictReader(stream))
    costs = {r["split"]: {name: float(r[name]) for name in COSTS} for r in summary if r["bytes_sent"]}
    known = attackers.read(workdir, config)
    found = cells(workdirs, policy, costs, known)
    known = known.able({(c.split, c.defense): c.leaking for c in found})
    floors = [r for r in summary if r["split"] == ANY_SPLIT]
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        originals, names = saved["pixels"], saved["names"]
    chosen, table = choice(found, policy), _table(found)
    seeds = [json.loads((w / "config.json").read_text())["seed"] for w in workdirs]
    data = {"policy": asdict(policy), "images": len(originals), "seeds": seeds, "cells": [_plain(c) for c in found]}
    data["choice"] = chosen and [chosen.split, chosen.defense]
    (folder / "audit.json").write_text(json.dumps(data, indent=1))
    with (folder / "audit.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    target = summary[0]["target"]
    title = f"What can be read from a split of {target}?"
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=lead id=verdict>{verdict(found, chosen, policy, len(originals))}</p>",
        f"<div class=first>{leakage_map(found, chosen, policy, floors)}{most_exposed(workdir, found, policy, originals, names)}</div>",
        "<h2 id=attackers>The attackers</h2>" + _attackers(found, known),
        "<h2>What adapting to the defense gains</h2>" + _adapted(found, policy),
        "<h2>Leakage against cost</h2>" + _fronts(found, policy, folder),
        "<h2>Pictures</h2>" + strips(workdir, found, originals),
        "<h2>The defenses</h2>" + _defenses(found),
        "<h2>What a split costs</h2>" + _costs(workdir, costs),
        "<h2>Every number</h2>" + _numbers(table, found),
        _threat(config, seeds, names, policy),
        *(page.this_run(w) for w in workdirs),
    ]
    return page.write(folder / "index.html", title, sections, script.SORT_AND_FILTER)


def _attackers(found, known):
    """Who could tell, and who could not."""
    attacks = dict.fromkeys(base(attack) for c in found for attack in c.attacks)
    text = (
        "<p>What leaks by an attacker counts always. What leaks by nobody counts only where an attacker who knows the defense "
        "could tell: his settings are at least those of configs/audit.py, and somewhere, in a cell of this audit or on "
        "procedural images after the network's first split point, at least half of the images leak by him.</p>"
    )
    rows = [{"attack": page.label(a), "best": f"{known.shown[a]:.0%}" if a in known.shown else ""} for a in attacks]
    columns = (("attack", "attack, adapted or not"), ("best", "images that leak where it does best"))
    text += page.table(rows, columns, "the attackers")
    for attack in attacks:
        if known.weak.get(attack):
            reasons = html.escape("; ".join(known.weak[attack]))
            text += f"<p class=warn><b>{html.escape(page.label(attack))} is too weak to judge</b>: {reasons}.</p>"
    for c in found:
        if c.level == LEVELS[4]:
            cell, why = (html.escape(x) for x in (f"{c.split}, {named(c.defense)}", "; ".join(c.reasons)))
            text += f"<p class=warn>Not judged: <b>{cell}</b>: {why}.</p>"
    return text


def _adapted(found, policy):
    pairs = adapting(found)
    if not pairs:
        return "<p>No adapted attacker ran; name adapted_dci in attacks.</p>"
    only_blind = [c for c, before, after, _ in pairs if before < policy.psnr <= after]
    text = (
        f"<p>In {len(only_blind)} of {len(pairs)} defended pairs the mean PSNR is below {policy.psnr:g} dB for the "
        "attacker who does not know the defense and not for the one who does: such a defense stopped only those who did "
        "not adapt.</p>"
    )
    odd = weaker(found)
    if odd:
        names = ", ".join(f"{c.split} with {c.defense}" for c in odd)
        text += (
            f"<p class=warn>At {html.escape(names)} the adapted attacker reads less than the other beyond both "
            "intervals. That is a weakness of the attack, not of the defense.</p>"
        )
    rows = [
        {
            "split": c.split,
            "defense": c.defense,
            "not adapted": f"{before:.1f}",
            "adapted": f"{after:.1f}",
            "by": best,
        }
        for c, before, after, best in pairs[:20]
    ]
    return text + page.table(
        rows, [(k, k if k not in ("not adapted", "adapted") else f"{k}, dB") for k in rows[0]], "what adapting gains"
    )


def _fronts(found, policy, folder):
    parts = []
    for name, cost, title, log in (
        ("bytes", lambda c: c.bytes_coded, "bytes of a message", True),
        ("accuracy", lambda c: 1 - c.kept[0], "share of the server's predictions lost", False),
    ):
        if name == "accuracy" and any(c.kept is None for c in found):
            continue
        drawing, axes = plt.subplots(figsize=(6.4, 4.6))
        best = front(found, cost)
        axes.scatter(
            [cost(c) for c in found], [c.leak("ssim_affine") for c in found], s=12, color="#94a3b8", label="all pairs"
        )
        axes.plot(
            [cost(c) for c in best], [c.leak("ssim_affine") for c in best], "o-", color="#c2410c", label="Pareto front"
        )
        for c in best[:: max(1, len(best) // 8)]:
            axes.annotate(
                f"{c.split}, {named(c.defense)}",
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
        axes.set_ylabel("SSIM after a fit, worst attacker")
        parts.append(page.figure(drawing, axes, folder / f"front_{name}.png", f"leakage against {title}"))
    return f"<div class='grid smooth'>{''.join(parts)}</div>"


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
            row["label_kept"] = _short(c.kept[0] if c.kept else "")
            row["server_accuracy"] = _short(c.accuracy[0] if c.accuracy else "")
            row["bytes_coded"] = round(c.bytes_coded)
            rows.append(row | {name: c.costs[name] for name in COSTS})
    return rows


def _short(value):
    return value if value == "" else round(value, 4)


def _plain(cell: Cell):
    return asdict(cell) | {"leak": {m: cell.leak(m) for m in MEASURES}}


def _defenses(found):
    """Each kind that was audited: what its strength is, where it comes from."""
    kinds = dict.fromkeys(c.defense.partition(" ")[0] for c in found)
    rows = [{"defense": k, "strength": DEFENSES[k].unit, "source": DEFENSES[k].source} for k in kinds if k in DEFENSES]
    return page.table(rows, [(name, name) for name in ("defense", "strength", "source")], "the defenses")


def _costs(workdir, costs):
    """Bytes, operations and parameters of each split for one image, and the milliseconds that were measured."""
    file = workdir / "evaluation" / "latency.json"
    taken = json.loads(file.read_text()) if file.exists() else {}
    rows = []
    for split, cost in costs.items():
        row = {"split": split} | {name: f"{value:,g}" for name, value in cost.items()}
        row |= {name: f"{taken[split][name]:.2f}" if split in taken else "" for name in ("device_ms", "attack_ms")}
        rows.append(row)
    titles = {
        "bytes_sent": "bytes as float32",
        "device_flops": "device FLOPs",
        "device_parameters": "device parameters",
        "batch_norms": "BatchNorm layers",
        "device_ms": "device, ms here",
        "attack_ms": "reading back, ms here",
    }
    return page.table(rows, [(name, titles.get(name, name)) for name in rows[0]], "what a split costs")


def _numbers(table, found):
    shown = (
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
    )
    shown += (
        "rank1",
        "rank1_structure",
        "label_agreement",
        "label_kept",
        "server_accuracy",
        "bytes_coded",
        *(("seeds_psnr_sd",) if any(c.between for c in found) else ()),
    )
    head = "".join(f"<th scope=col aria-sort=none><button type=button>{name}</button></th>" for name in shown)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(row[name]))}</td>" for name in shown) + "</tr>" for row in table
    )
    return (
        f"<p>{_missing(found)}</p><p><label>Show rows with <input id=filter type=search placeholder='layer1.2'></label> "
        "(all columns, with 95 % intervals: <a href=audit.csv>audit.csv</a>, <a href=audit.json>audit.json</a>)</p>"
        "<div class=wide role=region tabindex=0 aria-label='every number'>"
        f"<table id=numbers><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _missing(found):
    """Which measures are null, and why."""
    return " ".join(text for measure, text in script.MISSING.items() if all(c.leak(measure) is None for c in found))


def _threat(config, seeds, names, policy):
    trained = config["defense"]["images"] or "no real image"
    return script.THREAT.format(
        chance=1 / len(names),
        bound=min(1, 3 / len({photograph(str(name)) for name in names})),
        ssim=policy.ssim,
        psnr=policy.psnr,
        kept=policy.label_kept,
        structure=policy.structure,
        leaking=policy.leaking,
        images=_images(names),
        seeds=f"{'One seed' if len(seeds) == 1 else f'{len(seeds)} seeds, an image of all of them counted once'} "
        f"({', '.join(map(str, seeds))})",
        trained=html.escape(str(trained)),
    )


def _images(names):
    """How many images, and of how many photographs they are tiles."""
    whole = {photograph(str(name)) for name in names}
    return f"{len(names)} images" + (f", tiles of {len(whole)} photographs" if len(whole) < len(names) else "")
