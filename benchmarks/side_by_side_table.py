"""Prints the tables of README.md and docs/speed.md: `python -m benchmarks.side_by_side_table benchmarks/results/side_by_side/cpu.json`

One row per case: milliseconds of a step (median; quartiles of JAX's), and how many times as long the
fastest PyTorch column took (median over rounds, with its quartiles).
"""

import json
import sys
from pathlib import Path

TORCH = {  # column of the JSON -> heading
    "torch shipped": "PyTorch as shipped",
    "torch frozen": "frozen",
    "torch channels_last": "+ channels_last",
    "torch compiled": "+ compile",
    "torch amp": "+ bfloat16",
}


def table(result):
    """The lines of the table of a measurement."""
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
    """All that is printed."""
    lines = [*table(result), ""]
    lines += [
        f"{result['device']}, JAX {result['jax']}, PyTorch {result['torch']}; milliseconds per step, "
        f"medians of {result['repeats']}; `{result['command']}`"
    ]
    if "torch amp" in result["rows"][0]["columns"]:
        lines += ["", *on_gpu(result)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text())))
