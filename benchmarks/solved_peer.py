"""Seconds to a PSNR: an inverter chain solved here, solved in PyTorch from the same equations, and trained here.

    python -m benchmarks.solved_peer benchmarks/results/solved_peer.json

The embedded ResNet-20 after `layer1.2`, 3 x 3 neighbourhoods, the same procedural images; read back are the four photographs of
scikit-image in tiles. PyTorch makes its normal equations as one would there: `unfold`, and one product of matrices. Both solve
twice, and the second time is taken, compiled; the trained chain is given what a solve takes `TIMES` over, compilation apart.
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

from benchmarks import peers
from benchmarks.usage import arguments
from dci_jax import models
from dci_jax.data.images import photographs
from dci_jax.dci import inverter as linear_inverter
from dci_jax.dci import ridge, solve_chain
from dci_jax.dci.normal_equations import Normal
from dci_jax.dci.solve_inverter import HELPS
from dci_jax.dci.trained import train_chain
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr
from dci_jax.network import features_at, split_index

try:
    import torch
    from torch.nn import functional
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
TIMES = (1, 4, 16)  # how much longer than the solve training may take


def neighbourhoods(u, size):
    """[B, C, H, W] -> [B H W, C size^2], with zeros around the image."""
    return functional.unfold(u, size, padding=size // 2).transpose(1, 2).flatten(0, 1)


def applied(u, kernel, size):
    """A * u, of [B, C, H, W]; kernel [C size^2, T]."""
    batch, _, height, width = u.shape
    return (neighbourhoods(u, size) @ kernel).view(batch, height, width, -1).permute(0, 3, 1, 2)


def with_ones(f):
    return torch.cat([f, torch.ones_like(f[:, :1])], 1)


def regressors(target, index, split, seen, f, x):
    """[x, f - F(x), J^T (f - F(x)), J'^T (seen - F'(x)), f, 1]."""
    x = x.detach().requires_grad_()
    answer = target.run(x, index, index + 1)
    residual = (f - answer).detach()
    columns = [x.detach(), residual, torch.autograd.grad(answer, x, residual, retain_graph=True)[0]]
    if split > index + 1:
        last = target.run(answer, index + 1, split)
        columns.append(torch.autograd.grad(last, x, (seen - last).detach())[0])
    return with_ones(torch.cat([*columns, f], 1))


def normal_equations(pairs, size):
    """The sums over batches of (regressors, targets), float32 in a batch and float64 between them."""
    total = None
    for u, t in pairs:
        rows, targets = neighbourhoods(u, size), t.permute(0, 2, 3, 1).flatten(0, 2)
        new = [(a.T @ b).double().numpy() for a, b in ((rows, rows), (rows, targets), (targets, targets))]
        total = new if total is None else [a + b for a, b in zip(total, new, strict=True)]
    return Normal(*total)


def inverter(target, index, split, same, low, high, parts, rounds, sizes):
    """(maps, estimates of both parts); parts: (to be solved on, held out), lists of (seen, f, true)."""
    maps, errors, start, x = [], [], 1e-3, None
    for r in range(rounds + 1):
        size = sizes[min(r, 1)]
        if r == 0:
            u = [[with_ones(f) for _, f, _ in part] for part in parts]
            x = [[f if same else torch.zeros_like(true) for _, f, true in part] for part in parts]
        else:
            u = [
                [
                    regressors(target, index, split, seen, f, guess)
                    for (seen, f, _), guess in zip(part, guesses, strict=True)
                ]
                for part, guesses in zip(parts, x, strict=True)
            ]
        known = [
            [(a, true - guess) for a, (_, _, true), guess in zip(us, part, guesses, strict=True)]
            for us, part, guesses in zip(u, parts, x, strict=True)
        ]
        solution, start = ridge.best(*(normal_equations(pairs, size) for pairs in known), start or 1e-3)
        if solution is None:
            break
        kernel = torch.tensor(solution, dtype=torch.float32)
        new = [
            [(guess + applied(a, kernel, size)).clamp(low, high) for a, guess in zip(us, guesses, strict=True)]
            for us, guesses in zip(u, x, strict=True)
        ]
        error = sum(float(((guess - true) ** 2).sum()) for guess, (_, _, true) in zip(new[1], parts[1], strict=True))
        if errors and error >= errors[-1]:
            break
        errors, x = [*errors, error], new
        maps.append((kernel, size))
        if r and errors[-1] > HELPS * errors[-2]:
            break
    return maps, x


def chain(target, network, inverter_specs, made):
    """The inverters of a chain from `SPLIT`, the deepest first: (index, same, low, high, maps)."""
    split, found = len(inverter_specs), []
    with torch.no_grad():
        truth = [[[target.run(x, 0, index) for x in part] for part in made] for index in range(split + 1)]
    seen = estimates = truth[split]
    for index in reversed(range(split)):
        g = inverter_specs[index]
        parts = [list(zip(*columns, strict=True)) for columns in zip(seen, estimates, truth[index], strict=True)]
        sizes = linear_inverter.kernel_sizes(g, SOLVE["kernel_size"], SOLVE["max_unknowns"])
        maps, estimates = inverter(target, index, split, g.same, g.low, g.high, parts, SOLVE["num_corrections"], sizes)
        found.append((index, g.same, g.low, g.high, maps))
    return found


def read_back(target, inverters, seen):
    """Images from features at `SPLIT`."""
    f, split = seen, len(inverters)
    for index, same, low, high, maps in inverters:
        for r, (kernel, size) in enumerate(maps):
            if r == 0:
                x = applied(with_ones(f), kernel, size)
                x = (x + f if same else x).clamp(low, high)
            else:
                x = (x + applied(regressors(target, index, split, seen, f, x), kernel, size)).clamp(low, high)
        f = x
    return f


def timed(make):
    begin = time.perf_counter()
    found = jax.block_until_ready(make())
    return found, round(time.perf_counter() - begin, 2)


def mean_psnr(images, truth):
    return round(float(np.mean(psnr(np.asarray(images), truth))), 2)


def main(out):
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = models.load("cifar_resnet20", "", "")
    split, key = split_index(network, SPLIT), jax.random.key(0)
    truth = np.float32(photographs((32, 32, 3), tiles=8).pixels / 255)
    features = features_at(network, split, truth)
    inputs, rows = Prior((), SHARES, network.input_shape), []

    def solved():
        with tempfile.TemporaryDirectory() as folder:
            return solve_chain.dci(network, inputs, (SPLIT,), key, Path(folder), **SOLVE)[SPLIT]

    _, first = timed(solved)
    reader, seconds = timed(solved)
    rows.append(
        {"how": "solved, JAX", "seconds": seconds, "first_time_s": first, "psnr": mean_psnr(reader(features), truth)}
    )
    print(rows[-1], flush=True)
    draws = [batches(inputs, part, SOLVE["batch"]) for part in jax.random.split(key)]
    made = [
        [torch.tensor(np.asarray(draw(i))).permute(0, 3, 1, 2) for i in range(SOLVE[count] // SOLVE["batch"])]
        for draw, count in zip(draws, ("num_images", "num_validation"), strict=True)
    ]
    target = peers.target("cifar_resnet20", network).requires_grad_(False)
    inverter_specs = [linear_inverter.inverter_spec(network, index, split) for index in range(split)]
    chain(target, network, inverter_specs, made)
    inverters, seconds_torch = timed(lambda: chain(target, network, inverter_specs, made))
    seen = torch.tensor(np.asarray(features)).permute(0, 3, 1, 2)
    found = read_back(target, inverters, seen).detach().permute(0, 2, 3, 1).numpy()
    rows.append({"how": "solved, PyTorch", "seconds": seconds_torch, "psnr": mean_psnr(found, truth)})
    print(rows[-1], flush=True)
    rows += trained(network, inputs, key, seconds, truth, features)
    result = {
        "command": f"python -m benchmarks.solved_peer {Path(out).name}",
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {torch.get_num_threads()} threads",
        "jax": jax.__version__,
        "torch": torch.__version__,
        "ratio": round(seconds_torch / seconds, 2),
        "rows": rows,
    }
    Path(out).write_text(json.dumps(result, indent=1) + "\n")


def trained(network, inputs, key, seconds, truth, features):
    """Rows of `dci_trained` for so many times the solve's seconds, by the speed of a short training before."""
    from configs import default

    settings = default.get_config().dci_trained.to_dict()

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
    sys.exit(main(*arguments(__doc__, 1, 1)))
