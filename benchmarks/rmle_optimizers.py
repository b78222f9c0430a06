"""rMLE by three optimisers: `python -m benchmarks.rmle_optimizers --out=benchmarks/results/rmle_optimizers.json resnet20-12fca82f.th kodak/`

Sixteen tiles of photographs are optimised from a blank image until their features match, by Adam, by AMSGrad as optax has it, which keeps
the largest second moment after its bias is corrected, and as PyTorch has it, before.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dci_jax
from benchmarks.nonlinear_rest import tiles
from dci_jax.attacks.feature_matching import Regularizer, blank, match
from dci_jax.metrics import psnr

SPLITS, STEPS, RATE, TOTAL_VARIATION = ("layer1.2", "layer2.2"), (200, 2000), 0.02, 0.03


def torch_amsgrad(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """AMSGrad as `torch.optim.Adam(amsgrad=True)` computes it."""

    def init(params):
        zeros = jnp.zeros_like(params)
        return jnp.zeros([], jnp.int32), zeros, zeros, zeros

    def update(gradient, state, params=None):
        count, first, second, largest = state
        count, first, second = count + 1, b1 * first + (1 - b1) * gradient, b2 * second + (1 - b2) * gradient**2
        largest = jnp.maximum(largest, second)
        step = first / (1 - b1**count) / (jnp.sqrt(largest / (1 - b2**count)) + eps)
        return step, (count, first, second, largest)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(rate))


OPTIMISERS = {"Adam": optax.adam, "AMSGrad (PyTorch)": torch_amsgrad, "AMSGrad (optax)": optax.amsgrad}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    network, truth, rows = dci_jax.load_network("cifar_resnet20", given.weights), tiles(given.photographs, 16), []
    for split in SPLITS:
        features = dci_jax.features_at(network, split, truth)
        for steps in STEPS:
            for name, make in OPTIMISERS.items():
                optimiser = make(optax.cosine_decay_schedule(RATE, steps))
                start = blank(network, len(truth))
                found = match(network, split, features, start, Regularizer(TOTAL_VARIATION), optimiser, steps)
                level = round(float(np.mean(psnr(found, truth))), 2)
                rows.append({"split": split, "steps": steps, "optimiser": name, "psnr": level})
                print(rows[-1], flush=True)
    given.out.write_text(json.dumps({"rows": rows, "jax": jax.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
