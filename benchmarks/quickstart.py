"""The whole quickstart here and in PyTorch, by turns: `python -m benchmarks.quickstart benchmarks/results/quickstart_peer.json`

What `configs/quickstart.py` computes, phase by phase: prior fitting, a solved chain for each split point, one pass for each, refinement
and rMLE. PyTorch runs the same equations eagerly (`benchmarks/peer_quickstart.py`), frozen, in channels_last, with the sums by frequencies;
its chains are solved on images of its own random numbers, so its PSNR is another seed's. Every side has TURNS turns, everything compiled; JAX's first
turn, which compiles and finds no kept programs, is a column of its own. Metrics and the report are on neither side.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import (
    command,  # before JAX: it sets what JAX reads
    peer_quickstart,
    peer_solve,
    peers,
)
from benchmarks.usage import arguments

import jax  # isort: skip
import numpy as np

from configs import quickstart
from dci_jax import models
from dci_jax.attacks.refine import refine
from dci_jax.attacks.rmle import rmle
from dci_jax.data.images import photographs
from dci_jax.dci import solve_chain
from dci_jax.dci.blocks import chain_blocks
from dci_jax.dci.inverter import inverter_spec
from dci_jax.inputs.mixture import Prior, mixture
from dci_jax.inputs.prior import fit_filter, told_by
from dci_jax.metrics import psnr
from dci_jax.network import features_at, split_index

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

NAME, TURNS, DRAWN = "cifar_resnet20", 3, 4
CONFIG = quickstart.get_config()
SPLITS, OPTIMISED = CONFIG.splits, CONFIG.refine.splits[0]
SHARES = mixture({name: share for name, share in CONFIG.inputs.items() if name != "side"}, 0)
SETTINGS = {
    name: {key: value for key, value in CONFIG[name].items() if key not in ("splits", "num_splits")}
    for name in ("prior_fitting", "dci", "refine", "rmle")
}


def in_jax(network, truth, phase):
    """Reconstructions by name; `phase(name, function)` times what it calls."""
    key, start = jax.random.key(0), Prior((), SHARES, network.input_shape)
    inputs = phase("prior fitting", lambda: fit_filter(network, start, key, None, **SETTINGS["prior_fitting"]))
    features = {split: features_at(network, split, truth) for split in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        chains = phase(
            "three chains", lambda: solve_chain.dci(network, inputs, SPLITS, key, Path(folder), **SETTINGS["dci"])
        )
    found = phase("one pass of each", lambda: {s: np.asarray(_pass(chains[s], features[s])) for s in SPLITS})
    near = {OPTIMISED: lambda f: _pass(chains[OPTIMISED], f)}
    optimised = {
        "refine": refine(network, inputs, (OPTIMISED,), key, None, start=near, **SETTINGS["refine"]),
        "rmle": rmle(network, None, (OPTIMISED,), key, None, **SETTINGS["rmle"]),
    }
    for name, read in optimised.items():
        found[name] = phase(name, lambda read=read: _batches(read[OPTIMISED], features[OPTIMISED]))
    return found


@jax.jit
def _pass(chain, features):
    return chain(features)


def _batches(read, *arrays):
    size = CONFIG.batch
    return np.concatenate(
        [np.asarray(read(*(a[i : i + size] for a in arrays))) for i in range(0, len(arrays[0]), size)]
    )


def in_torch(network, target, truth, phase):
    """The same in PyTorch."""
    generator, shape, settings = torch.Generator().manual_seed(0), network.input_shape, SETTINGS["dci"]
    truth = torch.tensor(truth).permute(0, 3, 1, 2)  # in channels_last, as all that is made of it

    def fitting():
        count = SETTINGS["prior_fitting"]["batch"]
        drawn = [peer_quickstart.mixture(count, shape, SHARES, generator) for _ in range(DRAWN)]
        return peer_quickstart.fitted(target, drawn, told_by(network), SETTINGS["prior_fitting"], generator)

    bands, shift = phase("prior fitting", fitting)
    with torch.no_grad():
        depths = {split: split_index(network, split) for split in SPLITS}
        features = {split: target.run(truth, 0, depth) for split, depth in depths.items()}

    def images(count):
        made = peer_quickstart.mixture(count, shape, SHARES, generator)
        found = (255 * peer_quickstart.filtered(made, bands, shift)).round() / 255
        return found.contiguous(memory_format=torch.channels_last)

    def solved():
        made = [
            [images(settings["batch"]) for _ in range(settings[count] // settings["batch"])]
            for count in ("num_images", "num_validation")
        ]
        found = {}
        for split, depth in depths.items():
            whole = chain_blocks(network, (split,))
            assert split_index(whole, split) == depth, (
                f"{split} is undone in stages, which PyTorch's side does not know"
            )
            specs = [inverter_spec(whole, index, depth) for index in range(depth)]
            found[split] = peer_solve.chain(target, specs, made, settings, peer_solve.by_frequencies)
        return found

    chains = phase("three chains", solved)
    found = phase("one pass of each", lambda: {s: peer_solve.read_back(target, chains[s], features[s]) for s in SPLITS})
    depth, seen = depths[OPTIMISED], features[OPTIMISED]
    blank = torch.tensor(network.mean).view(1, -1, 1, 1).expand_as(truth).contiguous(memory_format=torch.channels_last)
    for name, start, b2 in (("refine", found[OPTIMISED], 0.99), ("rmle", blank, 0.999)):
        given = SETTINGS[name] | {"total_variation": float(np.ravel(SETTINGS[name]["total_variation"])[0])}

        def read(f, x, given=given, b2=b2):
            return peer_quickstart.matched(target, depth, f, x, given, b2)

        found[name] = phase(name, lambda read=read, start=start: torch.tensor(_batches(read, seen, start)))
    return {name: images.permute(0, 2, 3, 1).numpy() for name, images in found.items()}


def timed(side, truth):
    """(seconds of each phase, PSNR of each reconstruction)."""
    seconds = {}

    def phase(name, function):
        begin = time.perf_counter()
        found = jax.block_until_ready(function())
        seconds[name] = time.perf_counter() - begin
        return found

    found = side(phase)
    seconds["whole"] = sum(seconds.values())
    return seconds, {name: round(float(np.mean(psnr(images, truth))), 2) for name, images in found.items()}


def main(out):
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    jax.config.update("jax_enable_compilation_cache", False)  # what the first turn takes is what a first user waits for
    network = models.load(NAME, "", "")
    target = peers.target(NAME, network, peer_solve.Staged).requires_grad_(False)
    target.to(memory_format=torch.channels_last)
    truth = np.float32(photographs(network.input_shape, tiles=4).pixels / 255)
    sides = {
        "JAX": lambda phase: in_jax(network, truth, phase),
        "PyTorch": lambda phase: in_torch(network, target, truth, phase),
    }
    first, scores, taken = timed(sides["JAX"], truth)[0], {}, {name: [] for name in sides}
    for turn in range(TURNS):
        for name, side in list(sides.items())[:: -1 if turn % 2 else 1]:
            seconds, scores[name] = timed(side, truth)
            taken[name].append(seconds)
            print(name, {phase: round(value, 2) for phase, value in seconds.items()}, scores[name], flush=True)

    def row(phase):
        ours, theirs = ([seconds[phase] for seconds in taken[name]] for name in sides)
        ratio = round(float(np.median(np.divide(theirs, ours))), 2)
        medians = {name: round(float(np.median(found)), 2) for name, found in (("jax_s", ours), ("torch_s", theirs))}
        return {"phase": phase, "first_s": round(first[phase], 2)} | medians | {"ratio": ratio}

    result = {
        "command": command("benchmarks.quickstart", Path(out).name),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {torch.get_num_threads()} threads",
        "jax": jax.__version__,
        "torch": torch.__version__,
        "rows": [row(phase) for phase in first],
        "psnr": scores,
    }
    Path(out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(*arguments(__doc__, 1)))
