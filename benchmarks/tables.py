"""Prints the tables of README.md and docs/ from files of measurements:

python -m benchmarks.tables runs SUMMARY.csv [SUMMARY.csv ...]     PSNR / SSIM / label agreement; of several: DCI's PSNR
python -m benchmarks.tables he TRAINED RMLE INVERSE SAME SOLVED    He et al.'s table beside ours, of summary.csv's
python -m benchmarks.tables steps side_by_side/cpu.json            one step of every attack beside PyTorch's
python -m benchmarks.tables allocators FILE [FILE ...]             only its last column, for several allocators
python -m benchmarks.tables profiles profiles.txt                  what the milliseconds of each step are spent on
python -m benchmarks.tables kills KILLS.json [KILLS.json ...]      what a run had written last when it was stopped
python -m benchmarks.tables solves COST.json [COST.json ...]       what the inverters of a chain cost to solve
python -m benchmarks.tables devices COST.json [COST.json ...]      the same on several numbers of devices
python -m benchmarks.tables end_to_end END_TO_END.json             one image by DCI and by rMLE
python -m benchmarks.tables ablation SOLVED_ABLATION.json          what each part of the solved inverters is worth
python -m benchmarks.tables audit FOLDER                           an audit: PSNR behind each defense
python -m benchmarks.tables families CONVERTIBLE.json              which of timm's families are converted
"""

import argparse
import collections
import csv
import json
from pathlib import Path

from benchmarks import audit_tables, cost_tables

SPLITS = ("conv11", "relu22", "relu32")
# He, Zhang & Lee (ACSAC 2019), CIFAR-10: PSNR in dB and SSIM at the three splits.
PUBLISHED = {
    "rMLE": ((37.59, 0.996), (19.47, 0.694), (13.38, 0.163)),
    "inverse network, training set": ((49.88, 0.999), (19.81, 0.694), (15.42, 0.312)),
    "inverse network, same distribution": ((49.02, 0.999), (19.36, 0.680), (13.95, 0.220)),
    "inverse network, random noise": ((48.59, 1.0), (12.79, 0.293), (12.37, 0.044)),
}
# (which summary, attack there) -> the row; the oracles are inverse networks on real images.
OURS = {
    (1, "rmle"): "rMLE",
    (2, "oracle"): "inverse network, training set",
    (3, "oracle"): "inverse network, same distribution",
    (2, "inverse_network@white_noise"): "inverse network, random noise",
    (2, "inverse_network"): "inverse network, procedural images",
    (0, "dci_trained"): "DCI, trained, data-free, one forward pass",
    (0, "dci_trained+refine"): "DCI, trained, then refined",
    (4, "dci"): "**DCI, solved, data-free, one forward pass**",
}


TORCH = {  # column of the JSON -> heading
    "torch shipped": "PyTorch as shipped",
    "torch frozen": "frozen",
    "torch channels_last": "+ channels_last",
    "torch compiled": "+ compile",
    "torch amp": "+ bfloat16",
}


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


def he(summaries):
    """He et al.'s three split points; `summaries` are lists of rows of summary.csv, those at the end may be missing."""
    yield "| attack | | " + " | ".join(f"`{split}`" for split in SPLITS) + " |"
    yield "|---" * (2 + len(SPLITS)) + "|"
    for (number, attack), title in OURS.items():
        if title in PUBLISHED:
            cells = (f"{psnr:.2f} / {ssim:.3f}" for psnr, ssim in PUBLISHED[title])
            yield f"| {title} | published | " + " | ".join(cells) + " |"
        if number < len(summaries):
            found = {r["split"]: r for r in summaries[number] if r["attack"] == attack}
            if not found:
                continue
            cells = (f"{float(found[s]['psnr']):.2f} / {float(found[s]['ssim']):.3f}" for s in SPLITS)
            shown = "" if title in PUBLISHED else title
            yield f"| {shown} | here | " + " | ".join(cells) + " |"


def steps(result):
    """One row for a case: milliseconds of a step (median; quartiles of JAX's), and how many times as long PyTorch took."""
    rows = result["rows"]
    columns = [c for c in TORCH if any(c in row["columns"] for row in rows)]
    heads = ["step", "images", *(TORCH[c] for c in columns), "JAX", "JAX bfloat16"]
    heads += ["JAX compiles in", "best PyTorch / JAX"]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        cells = [row["case"], str(row["images"])]
        cells += [_ms(row["columns"][c]["step_ms"][1]) for c in columns]
        low, middle, high = row["columns"]["jax float32"]["step_ms"]
        cells += [f"{_ms(middle)} ({_ms(low)}-{_ms(high)})"]
        cells += [_ms(row["columns"]["jax bfloat16"]["step_ms"][1])]
        cells += [f"{row['columns']['jax float32']['compile_s']:.1f} s"]
        low, middle, high = row["ratios"][best(row)]
        cells += [f"**{middle:.2f}** ({low:.2f}-{high:.2f})"]
        yield "| " + " | ".join(cells) + " |"


def on_gpu(result):
    """The lines of a second table, for a GPU: images/s, share of the matrix product's rate, memory."""
    yield "| step | JAX images/s | share of peak | MiB | best PyTorch images/s | share of peak | MiB |"
    yield "|---" * 7 + "|"
    peak = result["matrix_product_gflops"]["float32"]
    for row in result["rows"]:
        cells = [row["case"]]
        for column in ("jax float32", best(row)):
            found = row["columns"][column]
            rate = found["images_per_s"]
            share = rate / row["images"] * row["gflop"] / peak
            cells += [f"{rate:.0f}", f"{share:.0%}", str(found.get("memory_mib", ""))]
        yield "| " + " | ".join(cells) + " |"


def best(row):
    """The fastest PyTorch column that computes in float32."""
    columns = [c for c in row["columns"] if c in TORCH and c != "torch amp"]
    return min(columns, key=lambda c: row["columns"][c]["step_ms"][1])


def _ms(value):
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def text(result):
    """All that is printed of `benchmarks.side_by_side`'s JSON."""
    lines = [*steps(result), ""]
    lines += [
        f"{result['device']}, JAX {result['jax']}, PyTorch {result['torch']}; milliseconds per step, "
        f"medians of {result['repeats']}; `{result['command']}`"
    ]
    if "torch amp" in result["rows"][0]["columns"]:
        lines += ["", *on_gpu(result)]
    return "\n".join(lines)


def profiles(printed):
    """Steps down, what they spend their time on across: what `benchmarks.profiled` printed, steps apart by an empty line."""
    groups = ("oneDNN's convolutions and products", "XLA's convolutions and products", "moved only", "the rest")
    yield "| step | ms | " + " | ".join(groups) + " |"
    yield "|---" * (2 + len(groups)) + "|"
    for profile in printed.strip().split("\n\n"):
        spent = {name: float(ms) for ms, name in (line.split(maxsplit=1) for line in profile.splitlines())}
        (step, whole), *operations = spent.items()
        shares = [sum(ms for name, ms in operations if name.startswith(group)) / whole for group in groups]
        yield (
            f"| {step.removeprefix('ms a step: ')} | {whole:.0f} | "
            + " | ".join(f"{share:.0%}" for share in shares)
            + " |"
        )


def kills(results):
    """Stages down, stops across, the counts of several files added up."""
    counts = collections.Counter()
    for hit, count in (item for result in results for item in result["hits"].items()):
        _, stop, where = hit.split(", ", 2)
        counts[where, stop] += count
    stops, stages = (sorted({key[i] for key in counts}) for i in (1, 0))
    yield "| the last file | " + " | ".join(stops) + " |"
    yield "|---" * (1 + len(stops)) + "|"
    for where in sorted(stages, key=lambda stage: -sum(counts[stage, stop] for stop in stops)):
        yield f"| {where} | " + " | ".join(str(counts[where, stop] or "") for stop in stops) + " |"


def families(results):
    """timm's families, those that are converted first: network, split points, the largest difference from PyTorch; or why not."""
    (result,) = results
    tried = {name: row for name, row in result["families"].items() if "left_out" not in row}
    yield "| family | smallest network | million weights | px | split points | largest difference | why not |"
    yield "|---" * 7 + "|"
    for family, row in sorted(tried.items(), key=lambda item: ("splits" not in item[1], item[0])):
        if "splits" in row:
            parts = row["side"], len(row["splits"]), f"{max(row['parity'].values()):.0e}", ""
        else:
            why = (row.get("refused") or row["crashed"]).replace("|", "/")
            parts = "", "", "", why
        yield f"| {family} | {row['name']} | {row['million_weights']} | " + " | ".join(map(str, parts)) + " |"


def solves(results):
    """What each inverter of a chain costs: the files of `python -m benchmarks.solve_cost`, one table for each."""
    for result in results:
        yield f"`{result['command']}`, {result['device']}:"
        yield ""
        yield "| block | grid | unknowns | inputs | a batch's regressors, s | its sums, s | GFLOP/s | its step, s | a factorisation, s | a correction, s |"
        yield "|---" * 10 + "|"
        for row in result["rows"]:
            grid = "x".join(map(str, row["grid"]))
            yield (
                f"| {row['block']} | {grid} | {row['unknowns']:,} | {row['inputs']} | {row['regressors_s']:.3f} | {row['sums_s']:.3f} | "
                f"{row['sums_gflop_per_s']} | {row['step_s']:.3f} | {row['solve_s']:.2f} | {row['round_s']:.1f} |"
            )
        yield ""


TABLES = {
    "runs": lambda files: "\n".join(one(read(files[0])) if len(files) == 1 else several(files)),
    "he": lambda files: "\n".join(he([list(csv.DictReader(file.read_text().splitlines())) for file in files])),
    "kills": lambda files: "\n".join(kills([json.loads(file.read_text()) for file in files])),
    "families": lambda files: "\n".join(families([json.loads(file.read_text()) for file in files])),
    "profiles": lambda files: "\n".join(profiles("\n\n".join(file.read_text() for file in files))),
    "solves": lambda files: "\n".join(solves([json.loads(file.read_text()) for file in files])),
    "devices": lambda files: "\n".join(cost_tables.devices([json.loads(file.read_text()) for file in files])),
    "allocators": lambda files: "\n".join(cost_tables.allocators([json.loads(file.read_text()) for file in files])),
    "end_to_end": lambda files: "\n".join(cost_tables.end_to_end(json.loads(files[0].read_text()))),
    "ablation": lambda files: "\n".join(cost_tables.ablation(json.loads(files[0].read_text()))),
    "audit": lambda files: "\n\n".join("\n".join(audit_tables.audit(folder)) for folder in files),
    "steps": lambda files: "\n\n".join(text(json.loads(file.read_text())) for file in files),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    print(TABLES[given.table](given.files))


if __name__ == "__main__":
    main()
