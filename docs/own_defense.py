"""How to bring a defense of your own: give dci_jax a `Defense`. This page runs as it is.

    python -m dci_jax.main --config=configs/audit.py --workdir=runs/own_defense \\
        --config.defenses="(('none', 0.0), ('docs.own_defense:threshold', 0.1))"

A config, or `dci_jax.audit(defenses=...)`, names it as (module:object, strength). Two functions make it:

* `send(params, key, features, strength)` is what the server receives, of the same shape [B, h, w, C], each example on its own.
  `key` is for random defenses (`random=True`); `params` is {} unless the defense learns (`learn=`).
* `expected(params, features, strength, received, num_queries)` is what an attacker who knows the defense compares a guess with: the
  mean of what arrives, differentiable in `features`. Be fair to the attacker: a defense that is only hard to differentiate hides
  nothing, so that here the gradient passes straight through.
"""

import jax
import jax.numpy as jnp

import dci_jax


def keep_large(features, strength):
    """Values below `strength` times the example's largest become 0."""
    largest = jnp.max(jnp.abs(features), tuple(range(1, features.ndim)), keepdims=True)
    return jnp.where(jnp.abs(features) < strength * largest, 0, features)


def send(params, key, features, strength):
    return keep_large(features, strength)


def expected(params, features, strength, received, num_queries):
    return features + jax.lax.stop_gradient(keep_large(features, strength) - features)


threshold = dci_jax.Defense(send, expected)
