"""The Markdown tables of costs and of the ablation, for docs/: see `python -m benchmarks.tables --help`."""

import numpy as np


def ablation(result):
    """The file of `benchmarks.solved_ablation`: mean and standard deviation over the seeds."""
    yield "| | PSNR, dB | label agreement |"
    yield "|---" * 3 + "|"
    for name, seeds in result.items():
        (psnr, agreement), (deviation, _) = np.mean(seeds, 0), np.std(seeds, 0, ddof=1)
        yield f"| {name} | {psnr:.2f} ± {deviation:.2f} | {agreement:.2f} |"


def devices(results):
    """Files of `benchmarks.solve_cost`, each with another number of devices: seconds for one batch of each block."""
    counts = [result["device"].split()[0] for result in results]
    yield "| block | unknowns | " + " | ".join(f"on {count}" for count in counts) + " | a factorization |"
    yield "|---" * (3 + len(counts)) + "|"
    for rows in zip(*(result["rows"] for result in results), strict=True):
        seconds = [row["regressors_s"] + row["sums_s"] + row["step_s"] for row in rows]
        first = rows[0]
        yield (
            f"| {first['block']} | {first['unknowns']:,} | "
            + " | ".join(f"{s:.3f}" for s in seconds)
            + f" | {first['solve_s']:.2f} |"
        )


def end_to_end(result):
    """The file of `benchmarks.end_to_end`: one image by DCI and by rMLE."""
    columns = list(result["rmle_s"])
    yield "| | " + " | ".join(columns) + " |"
    yield "|---" * (1 + len(columns)) + "|"
    passes = {column: f"{found[1]:.1f}" for column, found in result["dci_pass_ms_quartiles"].items()}
    updates = {column: f"{seconds:.1f}" for column, seconds in result["rmle_s"].items()}
    ratios = {column: str(ratio) for column, ratio in result["rmle_over_dci"].items()}
    titles = ("DCI, one pass, ms", f"rMLE, {result['iterations']} iterations, s", "rMLE / DCI")
    for title, row in zip(titles, (passes, updates, ratios), strict=True):
        yield f"| {title} | " + " | ".join(row.get(column, "") for column in columns) + " |"


def allocators(results):
    """Files of `benchmarks.side_by_side`, each with another allocator: how many times as long the best PyTorch column took."""
    yield "| step | " + " | ".join(_allocator(result["command"]) for result in results) + " |"
    yield "|---" * (1 + len(results)) + "|"
    for rows in zip(*(result["rows"] for result in results), strict=True):
        yield f"| {rows[0]['case']} | " + " | ".join(_ratio(row) for row in rows) + " |"


def _allocator(command):
    return "jemalloc" if "jemalloc" in command else "the system's"


def _ratio(row):
    columns = [c for c in row["columns"] if c.startswith("torch") and c != "torch amp"]
    low, middle, high = row["ratios"][min(columns, key=lambda c: row["columns"][c]["step_ms"][1])]
    return f"**{middle:.2f}** ({low:.2f}-{high:.2f})"
