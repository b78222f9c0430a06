"""What each part of the solved inverters is worth, as one table: means over three seeds, one amount of work for all.

python -m benchmarks.solved_ablation benchmarks/results/solved_ablation.json resnet20-12fca82f.th lossless_3000.npz

Every row is a chain for layer2.0 of a CIFAR ResNet-20, solved on 192 inputs, read back on the file's first 200 images;
one is trained as in `configs/paper.py` instead, on new inputs at every step.
The row "real images" is an oracle on the others; nothing here chooses anything. Rows that the JSON has are not made again.
"""

import argparse
import contextlib
import json
import logging
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from dci_jax import models
from dci_jax.dci import inverter, solve_chain
from dci_jax.dci.trained import train_chain
from dci_jax.inputs import prior, synthesis
from dci_jax.inputs.mixture import Prior
from dci_jax.metrics import psnr
from dci_jax.network import features_at, logits, run, split_index

SPLIT, SEEDS, TESTED = "layer2.0", 3, 200
BOTH = (("dead_leaves", 0.8), ("pink_noise", 0.2))
SETTINGS = dict(
    num_images=192,
    num_validation=64,
    batch=64,
    num_corrections=3,
    kernel_size=3,
    max_unknowns=(10000, 10000),
    samples_per_unknown=10000,
)


@contextlib.contextmanager
def without_transpose():
    """Corrections that see no gradient, neither of their block nor of the whole."""
    whole = inverter.regressors

    def blind(g, network, seen, f, x):
        u = whole(g, network, seen, f, x)
        start, stop = (
            g.target + g.sent - 1,
            g.channels - g.sent,
        )  # behind [x, f - F(x)], before [f, 1]
        return u.at[..., start:stop].set(0)

    inverter.regressors = blind
    jax.clear_caches()
    yield
    inverter.regressors = whole
    jax.clear_caches()


@contextlib.contextmanager
def without_cycle():
    """Corrections that know their own block only, not what the estimate gives at the split."""
    whole = solve_chain.inverter_spec
    solve_chain.inverter_spec = lambda network, index, stop=None, shapes=None: whole(network, index)
    yield
    solve_chain.inverter_spec = whole


@contextlib.contextmanager
def true_features():
    """Every inverter is solved on true features, none on what a deeper one makes."""
    whole = solve_chain._chain

    def apart(network, label, depths, *rest):
        return whole(network, label, (*depths, 0), *rest)

    solve_chain._chain, where = apart, solve_chain._where
    solve_chain._where = lambda rows, estimate, true: true
    yield
    solve_chain._chain, solve_chain._where = whole, where


@jax.jit
def answer(network, x):
    """Labels [B] that the network gives images."""
    return jnp.argmax(logits(network, run(network, x)), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("weights")
    parser.add_argument("images", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    network = models.load("cifar_resnet20", given.weights, "")
    pixels = np.load(given.images)["images"]
    tested = jnp.float32(pixels[:TESTED] / 255)
    features = features_at(network, split_index(network, SPLIT), tested)

    def scored(read):
        agreement = jnp.mean(answer(network, read) == answer(network, tested))
        return float(psnr(read, tested).mean()), float(agreement)

    def solved(seed, weights=BOTH, pool=(), steps=0, **more):
        with tempfile.TemporaryDirectory() as folder:
            key, inputs = jax.random.key(seed), Prior(pool, weights, network.input_shape)
            section = default.get_config().filter.to_dict() | {"steps": steps}
            inputs = prior.fit_filter(network, inputs, key, Path(folder) / "filter.npz", **section)
            readers = solve_chain.dci(network, inputs, (SPLIT,), key, Path(folder), **SETTINGS | more)
            return scored(readers[SPLIT](features))

    def synthesised(seed, start):
        section = default.get_config().synthesis.to_dict()
        section |= dict(batches=1, start=start, stages=((32, 80),))
        with tempfile.TemporaryDirectory() as folder:
            made = synthesis.synthesize(network, jax.random.key(seed), Path(folder), **section)
            return solved(seed, (("synthetic", 1.0),), made)

    def patched(patch):
        def row(seed):
            with patch():
                return solved(seed)

        return row

    def trained(seed):
        section = default.get_config().dci_trained.to_dict() | {"conquer": ((SPLIT, 300),)}
        inputs = Prior((), BOTH, network.input_shape)
        with tempfile.TemporaryDirectory() as folder:
            readers = train_chain.dci_trained(
                network, inputs, (SPLIT,), jax.random.key(seed), Path(folder) / "dci_trained", **section
            )
            return scored(readers[SPLIT](features))

    rows = {
        f"{rounds} corrections": lambda s, r=rounds: solved(s, num_corrections=r) for rounds in (0, 1, 2, 3, 4, 6, 8)
    }
    rows |= {
        "3 corrections without gradients": patched(without_transpose),
        "3 corrections without the cycle's": patched(without_cycle),
        "without the cycle's, on true features only": patched(true_features),
        "neighbourhoods of 5 x 5": lambda s: solved(s, kernel_size=5),
        "white noise": lambda s: solved(s, (("white_noise", 1.0),)),
        "1/f noise": lambda s: solved(s, (("pink_noise", 1.0),)),
        "dead leaves": lambda s: solved(s, (("dead_leaves", 1.0),)),
        "synthesised from noise": lambda s: synthesised(s, "white_noise"),
        "synthesised from dead leaves": lambda s: synthesised(s, "dead_leaves"),
        "trained by Adam, 450 steps of 40 new inputs": trained,
        "dead leaves and 1/f noise, calibrated": lambda s: solved(s, steps=60),
        "real images: an oracle": lambda s: solved(s, (("synthetic", 1.0),), pixels[TESTED:]),
    }
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name, row in rows.items():
        if name not in found:
            begun = time.monotonic()
            found[name] = [row(seed) for seed in range(SEEDS)]
            print(f"{(time.monotonic() - begun) / SEEDS:.0f} s for each seed", flush=True)
        (decibel, agreement), deviation = np.mean(found[name], 0), np.std(found[name], 0, ddof=1)
        print(f"| {name} | {decibel:.2f} ± {deviation[0]:.2f} | {agreement:.2f} |", flush=True)
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
