"""What a learned prior adds to refinement: a denoiser trained on procedural images (docs/own_denoiser.py) beside total variation.

    python -m benchmarks.denoiser_prior --out=benchmarks/results/denoiser_prior.json resnet20-12fca82f.th kodak/ lossless_3000.npz

The published CIFAR ResNet-20; chains are solved on 512 procedural images, and refined in 200 steps. Weights are tried on 64 tiles of
Kodak photographs, a development set; the best of each kind then refines 100 CIFAR-10 images.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax
from benchmarks.nonlinear_rest import tiles
from docs.own_denoiser import looks_clean

SPLITS = ("layer2.2",)
VARIATIONS, WEIGHTS = (0.03, 0.1, 0.3, 1.0), (30.0, 100.0, 300.0, 1000.0)
SETTINGS = dict(num_images=512, num_corrections=3, kernel_size=3, max_unknowns=(6000, 3000), samples_per_unknown=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    network, key = dci_jax.load_network("cifar_resnet20", given.weights), jax.random.key(0)
    prior = dci_jax.fit_prior(network, key=key, progress=False)
    sets = {
        "Kodak tiles": tiles(given.photographs, 64),
        "CIFAR-10": np.load(given.images)["images"][:100] / np.float32(255),
    }
    rows = []

    def keep(split, images, name, weight, found):
        scores = [
            float(score(found, jnp.asarray(sets[images])).mean())
            for score in (dci_jax.metrics.psnr, dci_jax.metrics.ssim)
        ]
        rows.append({"split": split, "images": images, "regularizer": name, "weight": weight})
        rows[-1] |= {"psnr": round(scores[0], 2), "ssim": round(scores[1], 3)}
        print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps({"rows": rows, "jax": jax.__version__}, indent=1))
        return scores[0]

    for split in SPLITS:
        chain = dci_jax.solve_chain(network, split, prior, key=key, progress=False, **SETTINGS)
        sent = {images: dci_jax.features_at(network, split, x) for images, x in sets.items()}
        start = {images: chain(features) for images, features in sent.items()}

        def refined(images, name, weight, split=split, sent=sent, start=start):
            how = {"total_variation": weight}
            if name == "denoiser":
                how = {"total_variation": 0.0, "prior": looks_clean, "prior_weight": weight}
            return dci_jax.optimize(
                network, split, sent[images], start=start[images], num_steps=200, progress=False, **how
            )

        for images in sets:
            keep(split, images, "none: single pass", 0.0, start[images])
        for name, weights in (("total variation", VARIATIONS), ("denoiser", WEIGHTS)):
            tried = {w: keep(split, "Kodak tiles", name, w, refined("Kodak tiles", name, w)) for w in weights}
            best = max(tried, key=tried.get)
            keep(split, "CIFAR-10", name, best, refined("CIFAR-10", name, best))


if __name__ == "__main__":
    main()
