"""What steps gain where XLA:CPU takes oneDNN's convolutions, in turns with its own: `python -m benchmarks.onednn`

Prints JSON: for each case of `benchmarks.side_by_side` milliseconds of a step with and without `onednn.options()`, and their
ratio, the median over the turns of what the median step of each took (as there). JAX 0.12 or later.
"""

import json
import os
import platform
import statistics
import sys

from benchmarks import command
from benchmarks.cases import cases  # before JAX computes: it sets what XLA reads
from benchmarks.side_by_side import TURNS, jax_step, turn
from benchmarks.usage import arguments
from dci_jax.cpu_kernels.onednn import options
from dci_jax.runtime.training_loop import jitted

import jax  # isort: skip


def row(name, case):
    """The row of one case."""
    side = case.jax("float32")
    columns = {label: jax_step(side, way)[0] for label, way in (("xla", jitted(None)), ("onednn", jitted(options())))}
    times = {label: [] for label in columns}
    for number in range(TURNS):
        for label, one in list(columns.items())[:: -1 if number % 2 else 1]:
            times[label].append(statistics.median(turn(one)))
    ratio = statistics.median(a / b for a, b in zip(times["xla"], times["onednn"], strict=True))
    medians = {label: round(1e3 * statistics.median(found), 1) for label, found in times.items()}
    return {"case": name, "step_ms": medians, "xla_over_onednn": round(ratio, 2)}


def main():
    if options() is None:
        return f"JAX {jax.__version__} on {jax.default_backend()} takes no oneDNN; take a CPU and JAX 0.12 or later."
    rows = []
    for name, case in cases(False).items():
        rows.append(row(name, case()))
        jax.clear_caches()
    result = {
        "command": command("benchmarks.onednn"),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {len(os.sched_getaffinity(0))} threads",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    return None


if __name__ == "__main__":
    arguments(__doc__, 0, 0)
    sys.exit(main())
