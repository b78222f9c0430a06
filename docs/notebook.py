"""The library in a notebook: your own Flax function, a chain, reconstructions, an audit. This page runs as it is.

python docs/notebook.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import dci_jax


def block(params, x):
    """[B, H, W, C] -> [B, H, W, 16]: any pure JAX function, here a Flax layer."""
    return nn.relu(nn.Conv(16, (3, 3)).apply(params, x))


def classify(kernel, x):
    """[B, H, W, 16] -> logits [B, 10]."""
    return jnp.mean(x, (1, 2)) @ kernel


def main(num_images: int = 64, folder: str = "runs/notebook") -> dci_jax.Report:
    """Reconstruct images from the second block's features, and audit the network."""
    keys = jax.random.split(jax.random.key(0), 5)
    layer = nn.Conv(16, (3, 3))
    pieces = [
        ("first", block, layer.init(keys[0], jnp.zeros((1, 16, 16, 3)))),
        ("second", block, layer.init(keys[1], jnp.zeros((1, 16, 16, 16)))),
    ]
    head = (classify, 0.1 * jax.random.normal(keys[2], (16, 10)))
    network = dci_jax.sequential("own", (16, 16, 3), pieces, head)

    prior = dci_jax.fit_prior(network, key=keys[3])
    chain = dci_jax.solve_chain(network, "second", prior, key=keys[4], num_images=num_images)
    print(chain)

    images = np.asarray(prior.sample(jax.random.key(9), 8))  # yours: [N, 16, 16, 3] in [0, 1]
    found = chain(dci_jax.features_at(network, "second", images))
    print(f"{dci_jax.metrics.psnr(found, images).mean():.1f} dB")

    report = dci_jax.audit(
        network, images, splits=("second",), defenses=(("gaussian", 1.0),), attacks=("dci", "adapted_dci")
    )
    print(report)
    report.save(folder)
    return report


if __name__ == "__main__":
    main()
