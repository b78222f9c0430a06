"""Does one weight of the BatchNorm loss fit every network? `python -m benchmarks.statistics_scale resnet18=PATH ...`

Prints, for each network and for the same dead leaves, DeepInversion's own sum of norms and this
project's relative mean (losses.batch_norm_statistics): the value, and the norm of its gradient per pixel.
"""

import jax
import jax.numpy as jnp

from benchmarks.usage import arguments
from dci_jax import models
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.losses import batch_norm_statistics
from dci_jax.network import running_statistics, trace


def deep_inversion(found, running):
    """sum over layers of |mean - running mean| + |var - running var| (Yin et al., eq. 4)."""
    distances = jax.tree.map(lambda a, b: jnp.linalg.norm(a - b), found, running)
    return sum(jax.tree.leaves(distances))


def measure(network, images):
    """{loss: (value, norm of the gradient of one pixel)}."""
    result = {}
    for loss in (deep_inversion, batch_norm_statistics):

        def value(images, network, loss=loss):
            return loss(trace(network, images)[1], running_statistics(network))

        found, gradient = jax.jit(jax.value_and_grad(value))(images, network)
        result[loss.__name__] = (float(found), float(jnp.sqrt(jnp.mean(gradient**2))))
    return result


if __name__ == "__main__":
    pairs = arguments(__doc__, 1)
    images = jax.jit(dead_leaves, static_argnums=(1, 2))(jax.random.key(0), 16, (112, 112, 3))
    for argument in pairs:
        name, _, path = argument.partition("=")
        print(name, measure(models.load(name, path), images))
