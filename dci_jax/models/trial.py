"""A network of one's own is tried before any work: what its blocks return, that they are finite, and that a gradient gets through.

A block that breaks these promises would make every attack weak, and a weak attack reads as safety.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError, reason
from dci_jax.inputs.latents import LATENTS, latent_prior
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Network, logits, run, single_block

_SAME = 1e-3  # relative difference that is rounding


def check(network: Network) -> None:
    """Raise InputError where a network cannot be attacked: by shapes first, then on two made-up inputs, block by block.

    Refused are features that are no array of floats with a row for each input, not finite, the same for both inputs, or another for
    an input alone than beside a second one; a gradient that is 0 everywhere; and a head without [B, classes].
    """
    _check_numbers(network)
    check_shapes(network)
    key = jax.random.key(0)
    latent = latent_prior(network)
    x = LATENTS[latent](key, 2, network.input_shape) if latent else dead_leaves(key, 2, network.input_shape)
    alone = x[:1]
    for index in range(len(network.blocks)):
        block, name = single_block(network, index), network.blocks[index].name
        where = f"{network.name}: the features after {name!r}"
        x, gradient = _tried(block, x)
        alone, _ = _tried(block, alone)
        if not jnp.isfinite(x).all():
            raise InputError(f"{where} are not finite; give weights whose training did not diverge.")
        if jnp.array_equal(x[0], x[1]):
            raise InputError(
                f"{where} are the same for every input; check the weights, and that the block uses its input."
            )
        if not float(jnp.linalg.norm(x[:1] - alone)) <= _SAME * float(jnp.linalg.norm(x)):
            raise InputError(
                f"{where} are others for an input alone than beside a second one; give the network in evaluation mode, where BatchNorm "
                "uses its running statistics."
            )
        if not jnp.any(gradient):
            raise InputError(
                f"{where} have a gradient of 0 everywhere, as rounding has, so that attacks by gradients would be weak; let it pass: "
                "x + jax.lax.stop_gradient(rounded - x)."
            )
    if network.head and not jnp.isfinite(jax.jit(logits)(network, x)).all():
        raise InputError(f"{network.name}: the logits are not finite; give weights whose training did not diverge.")


def _check_numbers(network):
    if not network.blocks:
        raise InputError(f"{network.name} has no blocks, so no split point; give one or more.")
    if not all(isinstance(n, int) and n > 0 for n in network.input_shape):
        raise InputError(f"{network.name} has the input shape {network.input_shape}; give whole numbers above 0.")
    for name in ("mean", "std"):
        values = getattr(network, name)
        if not isinstance(values, tuple | list | np.ndarray):
            raise InputError(f"{network.name}: {name} is {values!r}; give a tuple, such as ({values!r},).")
        if not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise InputError(
                f"{network.name} has {name} {tuple(values)}; give finite numbers{', above 0' * (name == 'std')}."
            )


def check_shapes(network: Network) -> None:
    """Raise InputError where blocks do not fit to each other, or return no floats with a row for each input."""
    x = jax.ShapeDtypeStruct((3, *network.input_shape), jnp.float32)
    for block in network.blocks:
        where = f"{network.name}: block {block.name!r}"
        try:
            y, statistics = jax.eval_shape(block.apply, block.params, x)
            jax.tree.map(lambda leaf: leaf.shape, statistics)
        except Exception as error:  # of every kind: it is the user's function
            raise InputError(
                f"{where} cannot be applied to features {list(x.shape)} ({reason(error)}); let it return an array, or an array and "
                "BatchNorm's statistics."
            ) from error
        if not hasattr(y, "shape") or y.shape[:1] != (3,):
            what = list(y.shape) if hasattr(y, "shape") else f"a {type(y).__name__}"
            raise InputError(f"{where} makes {what} of features {list(x.shape)}; let it return a row for each input.")
        if not jnp.issubdtype(y.dtype, jnp.floating):
            raise InputError(
                f"{where} returns {y.dtype}, and attacks need floats with a gradient; convert it, integers by their scale and with a gradient "
                "that passes: x + jax.lax.stop_gradient(rounded - x)."
            )
        x = y
    if network.head is None:
        return
    try:
        y, _ = jax.eval_shape(network.head.apply, network.head.params, x)
    except Exception as error:  # of every kind: it is the user's function
        raise InputError(
            f"{network.name}: the head cannot be applied to features {list(x.shape)} ({reason(error)}); correct it, or give none."
        ) from error
    if getattr(y, "ndim", 0) != 2 or y.shape[0] != 3:
        raise InputError(
            f"{network.name}: the head makes {list(getattr(y, 'shape', ()))} of 3 inputs; let it return logits [B, classes], or give "
            "head=None where there are no classes."
        )


@jax.jit
def _tried(block, x):
    """(features, the gradient of their random mixture)."""
    y, pull = jax.vjp(lambda x: run(block, x), x)
    return y, pull(jax.random.normal(jax.random.key(1), y.shape, y.dtype))[0]
