"""Where one JAX step of `python -m benchmarks.side_by_side` spends its time: `python -m benchmarks.profiled CASE`

Prints milliseconds per step and operation, and what they come to together, as XLA's own profiler counts them on the thread that
runs the program. On a CPU a convolution leaves its work to other threads and waits, so its line is too short:
what the step takes beyond the sum is theirs. On one core (`taskset -c 0`, Linux) nothing is left to others.
"""

import collections
import glob
import gzip
import json
import re
import sys
import tempfile
import time

import jax

from benchmarks.cases import cases
from benchmarks.side_by_side import GPU, jax_step
from benchmarks.usage import arguments

STEPS = 5
MOVES = {"bitcast", "broadcast", "concatenate", "copy", "fusion", "pad", "reverse", "slice", "transpose", "wrapped"}


def operations(one):
    """(wall milliseconds of a step, {operation: milliseconds of a step})."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            start = time.perf_counter()
            for _ in range(STEPS):
                one()
            wall = time.perf_counter() - start
        (file,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        with gzip.open(file) as stream:
            events = json.load(stream)["traceEvents"]
    total = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            total[_kind(event["name"])] += event["dur"] / STEPS / 1e3
    return 1e3 * wall / STEPS, total


def _kind(name):
    """Without its number: "fusion.12" and "fusion.7" are one kind, as are "custom-call.3.clone__onednn$convolution" and its like."""
    return re.sub(r"^custom-call.*?__|[.\d]+$", "", name)


def _group(kind):
    """What an operation is for."""
    if kind.startswith("onednn"):
        return "oneDNN's convolutions and products"
    if re.search("conv(?!ert)|dot", kind):
        return "XLA's convolutions and products"
    return "moved only" if MOVES.issuperset(re.split(r"[_-]", kind)) else "the rest: statistics, activations, sums"


def main(name):
    one, *_ = jax_step(cases(GPU)[name]().jax("float32"))
    one()
    wall, total = operations(one)
    print(f"{wall:8.1f} ms a step: {name}")
    for operation, spent in total.most_common(25):
        print(f"{spent:8.1f} {operation}")
    groups = collections.Counter()
    for operation, spent in total.items():
        groups[_group(operation)] += spent
    for group, spent in (*groups.most_common(), ("all operations", sum(total.values()))):
        print(f"{spent:8.1f} {group}")


if __name__ == "__main__":
    (case,) = arguments(__doc__, 1, 1)
    if case not in cases(GPU):
        print(f"There is no case {case!r}; give one of: {', '.join(cases(GPU))}.", file=sys.stderr)
        sys.exit(2)
    main(case)
