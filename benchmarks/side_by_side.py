"""One step of every attack in PyTorch and in JAX, taking turns: `python -m benchmarks.side_by_side OUT.json [CASE ...]`

First a gate: loss and gradient of both agree in float32, to 1e-4 on a few images and to 2e-3 on those
that are timed, where rounding opens some ReLUs in one framework only; else it says so at the end, and the
exit code is 1. Then every column has a turn, one column after the other, TURNS times around, with as many threads for each:
SETTLED steps that are not timed, then TIMED; what a turn took is the median of those, and a ratio the median over the turns.
(A virtual machine can give memory that is free for a second back to its host. What PyTorch keeps and XLA takes anew in every
step then costs more than the step, once, when a column's turn comes, but not in a training.)
OUT.json keeps the cases that are not measured anew. On a GPU there are also autocast, the memory that
PyTorch took and that XLA planned, and the matrix product that the FLOPs are a share of.
"""

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory to PyTorch

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import command
from benchmarks.cases import cases
from benchmarks.device_rates import matrix_product_rate
from benchmarks.usage import arguments
from dci_jax.cpu_kernels.onednn import fenced, options
from dci_jax.runtime import sharding
from dci_jax.runtime.flops import flops as count_flops
from dci_jax.runtime.training_loop import step

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

TURNS, SETTLED, TIMED = 8, 2, 4
GATE_IMAGES = 4
TOLERANCE, TOLERANCE_TIMED = 1e-4, 2e-3
RATE = 1e-3  # Adam's, on both sides
GPU = jax.default_backend() == "gpu"
DEVICE = torch.device("cuda" if GPU else "cpu")
torch.backends.cudnn.allow_tf32 = False  # as in JAX here: float32 is float32 in every column
torch.backends.cudnn.benchmark = GPU  # XLA tries cuDNN's algorithms, too


def gate(case):
    """The relative differences of loss and gradient (of the worst tensor), PyTorch's to JAX's in float32."""
    jaxs, torchs = case.jax("float32"), on_device(case.torch())
    with jax.default_matmul_precision("highest"):
        both = fenced(jax.value_and_grad(jaxs.loss, has_aux=True))
        (value, _), gradient = jax.jit(both, compiler_options=options())(jaxs.variables, jaxs.frozen, jaxs.batch)
    loss = torchs.loss(*torchs.data, *torchs.prepare(*case.drawn))
    loss.backward()
    differ = [
        np.linalg.norm(found.grad.cpu().numpy() - wanted) / (np.linalg.norm(wanted) + 1e-30)
        for found, wanted in zip(torchs.learned, case.port(gradient), strict=True)
    ]
    return {"loss": abs(loss.item() / float(value) - 1), "gradient": float(np.max(differ))}  # NaN, if one is


def on_device(torchs):
    """With everything on DEVICE; the leaves keep their identity."""
    torchs.target.to(DEVICE)
    for tensor in (*torchs.learned, *torchs.data):
        tensor.data = tensor.data.to(DEVICE)
    return torchs


def torch_columns(case):
    """Name -> (one step, compile and first-step seconds)."""

    def shipped():
        return on_device(case.torch())

    def frozen():
        torchs = shipped()
        torchs.target.requires_grad_(False)
        return torchs

    def channels_last():
        torchs = frozen()
        torchs.target.to(memory_format=torch.channels_last)
        for tensor in (*torchs.learned, *torchs.data):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        return torchs

    def compiled():
        torchs = channels_last()
        return replace(torchs, loss=torch.compile(torchs.loss))

    def amp():
        torchs = channels_last()

        def loss(*arguments):
            with torch.autocast("cuda", torch.bfloat16):
                return torchs.loss(*arguments)

        return replace(torchs, loss=torch.compile(loss))

    # On a GPU compiling a row takes minutes: the frozen target eagerly, and the best of PyTorch in both precisions.
    for make in (frozen, compiled, amp) if GPU else (shipped, frozen, channels_last, compiled):
        yield f"torch {make.__name__}", torch_step(make())


def torch_step(torchs):
    """A function that makes one update; the target's gradients are dropped with the others."""
    optimizer = torch.optim.Adam(torchs.learned, RATE, fused=True)

    def one():
        optimizer.zero_grad(set_to_none=True)
        torchs.target.zero_grad(set_to_none=True)
        torchs.loss(*torchs.data, *torchs.prepare(*torchs.draw())).backward()
        optimizer.step()
        if torchs.project:
            with torch.no_grad():
                for tensor in torchs.learned:
                    tensor.clamp_(0, 1)
        if GPU:
            torch.cuda.synchronize()

    return one


def jax_step(side, way=None):
    """(a function that makes one update, compile seconds, FLOPs, planned MiB); `way`: a jitted `optimize.update`; default: `step()`."""
    optimizer = optax.adam(RATE)
    layout = sharding.batch_sharded() if isinstance(side.variables, np.ndarray) else sharding.replicated()
    variables = jax.tree.map(jnp.copy, sharding.put(side.variables, layout))
    frozen, batch = jax.device_put((side.frozen, side.batch))
    state = jax.jit(optimizer.init)(variables)
    static = side.loss, optimizer, side.project, layout
    traced = (way or step()).trace(*static, variables, state, frozen, (batch,))
    lowered = traced.lower()
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds, held = time.perf_counter() - start, [variables, state]
    memory = compiled.memory_analysis()
    planned = memory.argument_size_in_bytes + memory.temp_size_in_bytes

    def one():
        *held[:], terms = compiled(*held, frozen, (batch,))
        jax.block_until_ready((held, terms))

    return one, seconds, count_flops(traced), planned / 2**20


def measure(name, few, case):
    """The row of one case: the gates, on `few` images and on those of `case`, then every column."""
    row = {"case": name, "images": case.images, "gate": gate(few), "gate_timed": gate(case), "columns": {}}
    steps, columns = {}, row["columns"]
    for dtype in ("float32", "bfloat16"):
        one, seconds, flops, planned = jax_step(case.jax(dtype))
        row["gflop"] = round(flops / 1e9, 2)
        steps[f"jax {dtype}"] = one
        columns[f"jax {dtype}"] = {"compile_s": round(seconds, 2), "memory_mib": round(planned)}
    for label, one in torch_columns(case):
        if GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        one()
        steps[label] = one
        columns[label] = {"compile_s": round(time.perf_counter() - start, 2)}
        if GPU:
            columns[label]["memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    times = {label: [] for label in steps}
    for number in range(TURNS):
        for label, one in list(steps.items())[:: -1 if number % 2 else 1]:
            times[label].append(turn(one))
    for label, found in times.items():
        quartiles = statistics.quantiles((seconds for some in found for seconds in some), n=4)
        columns[label]["step_ms"] = [round(1e3 * q, 2) for q in quartiles]
        columns[label]["images_per_s"] = round(case.images / quartiles[1], 1)
    times = {label: [statistics.median(some) for some in found] for label, found in times.items()}
    row["ratios"] = {
        label: [round(q, 3) for q in statistics.quantiles(map(_over, found, times[_ours(label)]), n=4)]
        for label, found in times.items()
        if label != "jax float32"
    }
    return row


def turn(one):
    """The seconds of TIMED steps, after those in which the threads of the column before still spin and the memory is not yet this one's."""
    for _ in range(SETTLED):
        one()
    found = []
    for _ in range(TIMED):
        start = time.perf_counter()
        one()
        found.append(time.perf_counter() - start)
    return found


def _ours(label):
    """The column of JAX that computes in the same precision."""
    return "jax bfloat16" if label == "torch amp" else "jax float32"


def differences(row):
    """What of a row's gates is beyond its bound, as sentences."""
    for found, most in ((row["gate"], TOLERANCE), (row["gate_timed"], TOLERANCE_TIMED)):
        if not all(value <= most for value in found.values()):
            yield f"{row['case']}: PyTorch and JAX differ by {found}, more than {most}; its times say nothing."


def _over(theirs, ours):
    return theirs / ours


def main(out, *names):
    """Measures the cases of these names, or all. Returns what is wrong with a name or a row, or None."""
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    out, all_cases, few = Path(out), cases(GPU), cases(GPU, GATE_IMAGES)
    for name in set(names) - set(all_cases):
        return f"No case is called {name!r}; choose from: {'; '.join(all_cases)}."
    known = json.loads(out.read_text())["rows"] if out.exists() else []
    rows = {row["case"]: row for row in known}
    for name in names or all_cases:
        rows[name] = measure(name, few[name](), all_cases[name]())
        jax.clear_caches()
        torch.compiler.reset()
        print(json.dumps(rows[name], indent=1), flush=True)
        result = {
            "command": command("benchmarks.side_by_side", out.name),
            "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {threads} threads",
            "python": platform.python_version(),
            "jax": jax.__version__,
            "torch": torch.__version__,
            "repeats": TURNS * TIMED,
            "matrix_product_gflops": {
                dtype: round(matrix_product_rate(dtype, 8192 if GPU else 2048) / 1e9, 1)
                for dtype in ("float32", "bfloat16")
            },
            "rows": [rows[name] for name in all_cases if name in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
    return "\n".join(sentence for row in rows.values() for sentence in differences(row)) or None


if __name__ == "__main__":
    sys.exit(main(*arguments(__doc__, 1)))
