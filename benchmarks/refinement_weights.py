"""Which weight of total variation refines best, on photographs and on the procedural images that choose it.

    python -m benchmarks.refinement_weights --out=benchmarks/results/refinement_weights.json kodak/

The embedded ResNet-20; chains are solved on 512 procedural images, and refined in 200 steps. Photographs are 64 tiles of the Kodak set, a
development set. "Share" is the part of the way from the single pass that is nearest to the truth. Split points that the file has are not
tried again.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax
from benchmarks.nonlinear_rest import tiles
from dci_jax.attacks.feature_matching import held_out, share

SPLITS, WEIGHTS = ("layer1.2", "layer2.0", "layer2.2", "layer3.1"), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SETTINGS = dict(num_images=512, num_corrections=3, kernel_size=3, max_unknowns=(6000, 3000), samples_per_unknown=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    network, key = dci_jax.load_network("cifar_resnet20"), jax.random.key(0)
    prior = dci_jax.fit_prior(network, key=key, progress=False)
    procedural = np.asarray(held_out(network, prior, jax.random.key(9), 32))
    rows = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for split in SPLITS:
        if any(row["split"] == split for row in rows):
            continue
        chain = dci_jax.solve_chain(network, split, prior, key=key, progress=False, **SETTINGS)
        for images, x in (("Kodak", tiles(given.photographs, 64)), ("procedural", procedural)):
            features = dci_jax.features_at(network, split, x)
            start = chain(features)
            for weight in (None, *WEIGHTS):
                how = dict(start=start, num_steps=200, total_variation=weight, progress=False)
                found = start if weight is None else dci_jax.optimize(network, split, features, **how)
                part = share(start, found, jnp.asarray(x))
                scores = [float(score(found, x).mean()) for score in (dci_jax.metrics.psnr, dci_jax.metrics.ssim)]
                row = {"split": split, "images": images, "weight": "single pass" if weight is None else weight}
                rows.append(row | {"psnr": round(scores[0], 2), "ssim": round(scores[1], 3), "share": round(part, 2)})
                print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps({"rows": rows, "jax": jax.__version__}, indent=1))


if __name__ == "__main__":
    main()
