"""How to bring an attack of your own: give dci_jax an `Attack`. This page runs as it is.

    python -m dci_jax.main --config=configs/audit.py --workdir=runs/own_attack \\
        --config.attacks="('dci', 'adapted_dci', 'docs.own_attack:nearest')"

A config, or `dci_jax.audit(attacks=...)`, names it as module:object, importable from the folder where you start. `fit` gets what an
attacker may have, the network, a prior of procedural images and the split points, and never a private image. It returns for each split
point a function from features [B, h, w, C] to images [B, H, W, C] in [0, 1]. `adapts=True` adds the keyword `channel`, the defense
that the attacker knows; "adapted_docs.own_attack:nearest" is then the adapted attack.
"""

import jax.numpy as jnp

import dci_jax

NUM_IMAGES = 64


def fit(network, prior, splits, key, folder):
    """The image of the prior whose features are nearest: a lookup, the weakest attack that looks at features at all."""
    del folder  # would keep what is expensive, so that a run that was stopped goes on
    images = prior.sample(key, NUM_IMAGES)

    def attack(split):
        known = dci_jax.features_at(network, split, images).reshape(NUM_IMAGES, -1)

        def reconstruct(features):
            found = features.reshape(len(features), -1)
            distances = jnp.sum(known**2, 1) - 2 * found @ known.T  # [B, NUM_IMAGES], less what is the same for all
            return images[jnp.argmin(distances, 1)]

        return reconstruct

    return {split: attack(split) for split in splits}


nearest = dci_jax.Attack(fit)
