"""What a learned prior adds to refinement: a denoiser trained on procedural images (docs/own_denoiser.py) beside total variation.

    python -m benchmarks.denoiser_prior --out=benchmarks/results/denoiser_prior.json resnet20-12fca82f.th kodak/ lossless_3000.npz
    python -m benchmarks.denoiser_prior --out=benchmarks/results/denoiser_prior.json --network=resnet50 --split=layer2.3 \\
        resnet50.safetensors kodak/ photographs/

Weights are tried on the photographs of the first folder, a development set; the best of each kind then refines the images of the
second. The rows are added to those of other networks in the file.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax
from benchmarks.nonlinear_rest import tiles
from dci_jax.data import images as data
from docs.own_denoiser import looks_clean

VARIATIONS, WEIGHTS = (0.03, 0.1, 0.3, 1.0), (30.0, 100.0, 300.0, 1000.0)
LARGE_VARIATIONS, LARGE_WEIGHTS = (0.1, 0.3, 1.0, 3.0), (100.0, 300.0, 1000.0)
SMALL = dict(num_images=512, num_corrections=3, kernel_size=3, max_unknowns=(6000, 3000), samples_per_unknown=100)
LARGE = dict(num_images=320, num_corrections=4, max_unknowns=(9300, 7000), samples_per_unknown=15, batch_size=16)
LARGE |= dict(num_validation=32)
AT_A_TIME = {32: 100, 224: 4}  # images, by their side


def prepared(given: argparse.Namespace, side: int, crop: float) -> dict[str, np.ndarray]:
    """Images [N, side, side, 3] in [0, 1] of each set."""
    if side == 32:
        return {"Kodak tiles": tiles(given.photographs, 64), "CIFAR-10": _some(given.images, side, crop, 1)[:100]}
    return {"Kodak": _some(given.photographs, side, crop, 4)[:6], "photographs": _some(given.images, side, crop, 10)}


def _some(path, side, crop, every):
    found = data.load(str(path), (side, side, 3), crop=crop)
    return found.pixels[::every] / np.float32(255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", default="cifar_resnet20")
    parser.add_argument("--split", default="layer2.2")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    network, key = dci_jax.load_network(given.network, given.weights), jax.random.key(0)
    side, split = network.input_shape[0], given.split
    sets = prepared(given, side, network.crop)
    how = {} if side == 32 else {"side": 192, "batch_size": 32, "padding": (0,)}
    prior = dci_jax.fit_prior(network, key=key, progress=False, **how)
    rows = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    rows = [row for row in rows if (row["network"], row["split"]) != (given.network, split)]
    chain = dci_jax.solve_chain(network, split, prior, key=key, progress=False, **(SMALL if side == 32 else LARGE))
    features, start = {}, {}
    for images, x in sets.items():
        features[images] = [dci_jax.features_at(network, split, some) for some in _batches(x, side)]
        start[images] = [chain(some) for some in features[images]]

    def keep(images, name, weight, found):
        found, truth = jnp.concatenate(found), jnp.asarray(sets[images])
        scores = [float(score(found, truth).mean()) for score in (dci_jax.metrics.psnr, dci_jax.metrics.ssim)]
        rows.append({"network": given.network, "split": split, "images": images, "regularizer": name, "weight": weight})
        rows[-1] |= {"psnr": round(scores[0], 2), "ssim": round(scores[1], 3)}
        print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps({"rows": rows, "jax": jax.__version__}, indent=1))
        return scores[0]

    def refined(images, name, weight):
        how = {"total_variation": weight}
        if name == "denoiser":
            how = {"total_variation": 0.0, "prior": looks_clean, "prior_weight": weight}
        how |= {"num_steps": given.steps, "progress": False}
        pairs = zip(features[images], start[images], strict=True)
        return [dci_jax.optimize(network, split, f, start=x, **how) for f, x in pairs]

    for images in sets:
        keep(images, "none: single pass", 0.0, start[images])
    development, evaluation = sets
    candidates = (VARIATIONS, WEIGHTS) if side == 32 else (LARGE_VARIATIONS, LARGE_WEIGHTS)
    for name, weights in zip(("total variation", "denoiser"), candidates, strict=True):
        tried = {w: keep(development, name, w, refined(development, name, w)) for w in weights}
        best = max(tried, key=tried.get)
        keep(evaluation, name, best, refined(evaluation, name, best))


def _batches(x, side):
    return [x[i : i + AT_A_TIME[side]] for i in range(0, len(x), AT_A_TIME[side])]


if __name__ == "__main__":
    main()
