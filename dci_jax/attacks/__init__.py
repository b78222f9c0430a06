"""Attacks by name. An attack turns features back into inputs.

It is a function `(network, inputs, splits, key, folder, **settings)` of what an adversary holds (the
network and inputs without real images) that returns, for each split point, a function from features
[B, ...] to inputs [B, ...].
"""

from dci_jax.attacks import (
    dci,
    dci_trained,
    deep_image_prior,
    deepinversion,
    gauss_newton,
    inverse_network,
    rmle,
)

ATTACKS = {
    "dci": dci.dci,
    "dci_shared": dci.dci_shared,
    "dci_trained": dci_trained.dci_trained,
    "inverse_network": inverse_network.inverse_network,
    "rmle": rmle.rmle,
    "deepinversion": deepinversion.deepinversion,
    "deep_image_prior": deep_image_prior.deep_image_prior,
    "gauss_newton": gauss_newton.gauss_newton,
}
# Those that learn from inputs: "inverse_network@white_noise".
LEARNING = ("dci", "dci_shared", "dci_trained", "inverse_network")
