"""Seconds to a PSNR: an inverter chain solved here, solved in PyTorch from the same equations, and trained here.

    python -m benchmarks.solved_peer benchmarks/results/solved_peer.json weights/resnet18.safetensors

The embedded ResNet-20 after `layer1.2` and torchvision's ResNet-18 after `layer2.1`, solved on the same procedural images; read back
are the photographs of scikit-image. PyTorch makes its sums by frequencies as this project does, and, for ResNet-20, as one would
write them first (`benchmarks/peer_solve.py`). Both solve by turns, compiled, and a ratio is the median of the turns'. The trained
chain is given what a solve takes `TIMES` over, compilation apart. Without the weights there are no rows of ResNet-18.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import peer_solve, peers
from benchmarks.usage import arguments
from dci_jax import models
from dci_jax.data.images import photographs
from dci_jax.dci import solve_chain
from dci_jax.dci.blocks import chain_blocks
from dci_jax.dci.inverter import inverter_spec
from dci_jax.dci.trained import train_chain
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr
from dci_jax.network import features_at, split_index

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

SPLIT = "layer1.2"
SHARES = (("dead_leaves", 0.8), ("pink_noise", 0.2))
SOLVE = {
    "num_images": 256,
    "num_validation": 64,
    "batch": 64,
    "num_corrections": 3,
    "kernel_size": 3,
    "max_unknowns": (10000, 7000),
    "samples_per_unknown": 10**6,
}
# As configs/resnet18.py, on images of 128 px.
RESNET18 = (
    "layer2.1",
    128,
    SOLVE
    | {
        "num_images": 1152,
        "batch": 128,
        "num_validation": 128,
        "kernel_size": 5,
        "max_unknowns": (10000, 9300),
        "samples_per_unknown": 50,
    },
)
TURNS, TURNS_RESNET18 = 3, 2
TIMES = (1, 4, 16)  # how much longer than the solve training may take


def timed(make):
    begin = time.perf_counter()
    found = jax.block_until_ready(make())
    return found, round(time.perf_counter() - begin, 2)


def mean_psnr(images, truth):
    return round(float(np.mean(psnr(np.asarray(images), truth))), 2)


def compared(label, name, network, chain, truth, ways, turns):
    """Rows of one chain (split point, side, settings), solved here and by `ways` of PyTorch by turns, with the median of their ratios."""
    split, side, settings = chain
    inputs, key = Prior((), SHARES, (side, side, 3)), jax.random.key(0)
    features = features_at(network, split, truth)
    whole = chain_blocks(network, (split,))
    depth = split_index(whole, split)
    specs = [inverter_spec(whole.replace(input_shape=inputs.shape), index, depth) for index in range(depth)]
    draws = [batches(inputs, part, settings["batch"]) for part in jax.random.split(key)]
    made = [
        [torch.tensor(np.asarray(draw(i))).permute(0, 3, 1, 2) for i in range(settings[count] // settings["batch"])]
        for draw, count in zip(draws, ("num_images", "num_validation"), strict=True)
    ]
    target = peers.target(name, network, peer_solve.Staged).requires_grad_(False)
    target.to(memory_format=torch.channels_last)  # as the permuted images are
    seen = torch.tensor(np.asarray(features)).permute(0, 3, 1, 2)

    def solved():
        with tempfile.TemporaryDirectory() as folder:
            return solve_chain.dci(network, inputs, (split,), key, Path(folder), **settings)[split]

    reader, first = timed(solved)
    rows = {f"{label}solved, JAX": {"seconds": [], "first_time_s": first, "psnr": mean_psnr(reader(features), truth)}}
    for turn in range(turns):
        rows[f"{label}solved, JAX"]["seconds"].append(timed(solved)[1])
        for words, sums in ways.items():
            inverters, seconds = timed(lambda sums=sums: peer_solve.chain(target, specs, made, settings, sums))
            row = rows.setdefault(f"{label}solved, PyTorch, {words}", {"seconds": []})
            row["seconds"].append(seconds)
            if turn == 0:
                found = peer_solve.read_back(target, inverters, seen).permute(0, 2, 3, 1).numpy()
                row["psnr"] = mean_psnr(found, truth)
    ours = rows[f"{label}solved, JAX"]["seconds"]
    for how, row in rows.items():
        ratio = float(np.median(np.divide(row["seconds"], ours)))
        yield {"how": how} | row | {"seconds": float(np.median(row["seconds"])), "ratio": round(ratio, 2)}


def main(out, weights=""):
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = models.load("cifar_resnet20", "", "")
    truth = np.float32(photographs((32, 32, 3), tiles=8).pixels / 255)
    ways = {"by frequencies": peer_solve.by_frequencies, "by unfolding": peer_solve.by_unfolding}
    rows = list(compared("", "cifar_resnet20", network, (SPLIT, 32, SOLVE), truth, ways, TURNS))
    print(*rows, sep="\n", flush=True)
    rows += trained(network, rows[0]["seconds"], truth)
    if weights:
        network = models.load("resnet18", weights, "")
        truth = np.float32(photographs((224, 224, 3), tiles=1).pixels / 255)
        few = {words: sums for words, sums in ways.items() if sums is peer_solve.by_frequencies}
        rows += compared("ResNet-18, ", "resnet18", network, RESNET18, truth, few, TURNS_RESNET18)
    result = {
        "command": " ".join(["python -m benchmarks.solved_peer", *(Path(f).name for f in (out, weights) if f)]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {torch.get_num_threads()} threads",
        "jax": jax.__version__,
        "torch": torch.__version__,
        "rows": rows,
    }
    Path(out).write_text(json.dumps(result, indent=1) + "\n")


def trained(network, seconds, truth):
    """Rows of `dci_trained` for so many times the solve's seconds, by the speed of a short training before."""
    from configs import default

    settings, key = default.get_config().dci_trained.to_dict(), jax.random.key(0)
    inputs = Prior((), SHARES, network.input_shape)
    features = features_at(network, split_index(network, SPLIT), truth)

    def run(divide, conquer):
        given = settings | {"divide_steps": divide, "conquer": ((SPLIT, conquer),)}
        with tempfile.TemporaryDirectory() as folder:
            return timed(lambda: train_chain.dci_trained(network, inputs, (SPLIT,), key, Path(folder), **given)[SPLIT])

    run(4, 4)
    (_, short), (_, longer) = run(4, 4), run(24, 24)
    step = (longer - short) / 20  # of both phases together
    for times in TIMES:
        steps = max(round(times * seconds / step), 4)
        reader, spent = run(steps, steps)
        row = {"how": f"trained, JAX, {steps} + {steps} steps", "seconds": round(spent - short + 4 * step, 2)}
        yield row | {"psnr": mean_psnr(reader(features), truth)}
        print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main(*arguments(__doc__, 1, 2)))
