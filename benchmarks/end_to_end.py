"""One image read back from ResNet-20's layer2.2, from its features to its pixels: `python -m benchmarks.end_to_end OUT.json`

DCI's single forward pass against 5000 iterations of rMLE, in JAX and in every PyTorch column. The passes
take turns and are medians; the iterations are run once, all 5000 of them. Compiling comes before.
"""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from benchmarks import cases, command, peers, side_by_side  # before JAX: it sets what JAX reads
from benchmarks.usage import arguments

import jax  # isort: skip
import numpy as np
import optax

from configs import default
from dci_jax.dci.chain import Chain
from dci_jax.dci.trained.train_chain import of_phases
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.network import run, split_index
from dci_jax.runtime.training_loop import minimize

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

NAME, SPLIT = "cifar_resnet20", "layer2.2"
ITERATIONS, PASSES, WARM = 5000, 50, 5
LEVEL = 1 / 255 / 4  # a quarter of a grey level: seven inverters with random weights add up rounding


def passes():
    """Column -> a function that reads one image back in a single pass; all give the same image."""
    settings = of_phases(default.get_config().dci_trained) | {"conquer": ()}
    network, modules, params, twins = cases.chain(NAME, SPLIT, settings)
    features = run(network, cases.uniform(1, 32), 0, split_index(network, SPLIT))
    params, network, features = jax.device_put((params, network, features))

    found = [TrainedInverter(params[i], modules[i], i) for i in reversed(range(len(modules)))]
    chain, apply = Chain.of(found, network, SPLIT), jax.jit(lambda chain, features: chain(features))

    def in_jax():
        return np.asarray(apply(chain, features))

    yield "jax float32", in_jax

    def in_torch(layout, compiled):
        target = peers.target(NAME, network).to(side_by_side.DEVICE, memory_format=layout)
        inverters = [t.to(side_by_side.DEVICE, memory_format=layout) for t in twins()]
        given = torch.tensor(cases.as_torch(features)[0], device=side_by_side.DEVICE)
        given = given.contiguous(memory_format=layout)
        function = torch.compile(peers.invert) if compiled else peers.invert

        @torch.no_grad()
        def once():
            found = function(target, inverters, given)
            return found.permute(0, 2, 3, 1).cpu().numpy()

        return once

    yield "torch frozen", in_torch(torch.contiguous_format, False)
    yield "torch channels_last", in_torch(torch.channels_last, False)
    yield "torch compiled", in_torch(torch.channels_last, True)


def time_passes():
    """Column -> quartiles of the milliseconds of a pass."""
    columns = dict(passes())
    wanted = columns["jax float32"]()
    for label, once in columns.items():
        error = np.abs(once() - wanted).max()
        assert error < LEVEL, f"{label} differs by {error}"
    times = {label: [] for label in columns}
    for _ in range(PASSES + WARM):
        for label, once in columns.items():
            start = time.perf_counter()
            once()
            times[label].append(time.perf_counter() - start)
    return {
        label: [round(1e3 * q, 2) for q in statistics.quantiles(found[WARM:], n=4)] for label, found in times.items()
    }


def time_rmle():
    """Column -> seconds of all the iterations on one image."""
    case = cases.matching(NAME, 1, 32, SPLIT)
    side, optimizer = case.jax("float32"), optax.adam(side_by_side.RATE)
    frozen, seconds = jax.device_put(side.frozen), {}

    def in_jax(steps):
        images, _ = minimize(
            side.loss,
            side.variables,
            frozen,
            lambda _: None,
            steps=steps,
            optimizer=optimizer,
            project=side.project,
        )
        images.block_until_ready()

    in_jax(10)
    start = time.perf_counter()
    in_jax(ITERATIONS)
    seconds["jax float32"] = round(time.perf_counter() - start, 2)
    for label, one in side_by_side.torch_columns(case):
        if label == "torch amp":
            continue
        for _ in range(10):
            one()
        start = time.perf_counter()
        for _ in range(ITERATIONS):
            one()
        seconds[label] = round(time.perf_counter() - start, 2)
    return seconds


def main(out):
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    result = {
        "command": command("benchmarks.end_to_end", Path(out).name),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {threads} threads",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "network": NAME,
        "split": SPLIT,
        "iterations": ITERATIONS,
        "dci_pass_ms_quartiles": time_passes(),
        "rmle_s": time_rmle(),
    }
    ours, theirs = result["dci_pass_ms_quartiles"], result["rmle_s"]
    result["rmle_over_dci"] = {label: round(1e3 * theirs[label] / ours[label][1]) for label in ours if label in theirs}
    Path(out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(*arguments(__doc__, 1, 1)))
