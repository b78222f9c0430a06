"""Prints the README's tables from summaries of runs: `python benchmarks/tables.py SUMMARY.csv [SUMMARY.csv ...]`

One file: PSNR / SSIM / label agreement of every attack at every split. Several: PSNR of DCI, one row
per file, called by its folder (the ablation).
"""

import csv
import sys
from pathlib import Path


def read(path):
    """The rows of a summary.csv that have no defense."""
    with Path(path).open() as stream:
        return [row for row in csv.DictReader(stream) if row["defense"] == "none"]


def one(rows):
    """Splits down, attacks across."""
    splits = list(dict.fromkeys(row["split"] for row in rows if row["split"] != "any"))
    attacks = list(dict.fromkeys(row["attack"] for row in rows if row["split"] != "any"))
    cells = {(row["split"], row["attack"]): row for row in rows}
    yield "| after | " + " | ".join(f"`{a}`" for a in attacks) + " |"
    yield "|---" * (1 + len(attacks)) + "|"
    for split in splits:
        line = [f"`{split}`"]
        for attack in attacks:
            row = cells.get((split, attack))
            line.append(f"{_text(row)}" if row else "")
        yield "| " + " | ".join(line) + " |"
    for row in rows:
        if row["split"] == "any":
            yield f"\n{row['attack']}: {_text(row)}"


def several(paths):
    """Runs down, splits across: PSNR of DCI."""
    runs = {Path(path).parent.name: read(path) for path in paths}
    runs = {name: [r for r in rows if r["attack"] == "dci_trained"] for name, rows in runs.items()}
    splits = list(dict.fromkeys(r["split"] for rows in runs.values() for r in rows))
    yield "| variant | " + " | ".join(f"`{split}`" for split in splits) + " |"
    yield "|---" * (1 + len(splits)) + "|"
    for name, rows in runs.items():
        psnr = {r["split"]: f"{float(r['psnr']):.1f}" for r in rows}
        yield f"| {name.replace('_', ' ')} | " + " | ".join(psnr.get(s, "") for s in splits) + " |"


def _text(row):
    return f"{float(row['psnr']):.1f} / {float(row['ssim']):.2f} / {float(row['label_agreement']):.2f}"


if __name__ == "__main__":
    files = sys.argv[1:]
    print("\n".join(one(read(files[0])) if len(files) == 1 else several(files)))
