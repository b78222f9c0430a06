"""The priors of generators: where the latents that a generator was trained on come from."""

import jax
import jax.numpy as jnp

from dci_jax.network import Network
from dci_jax.typing import Array


def normal(key: Array, count: int, shape: tuple[int, ...]) -> Array:
    """Codes [count, *shape], float32, each entry standard normal."""
    return jax.random.normal(key, (count, *shape))


def uniform(key: Array, count: int, shape: tuple[int, ...]) -> Array:
    """Codes [count, *shape], float32, each entry uniform in [-1, 1)."""
    return jax.random.uniform(key, (count, *shape), minval=-1.0, maxval=1.0)


# name -> (key, count, shape) -> latents; which network has which prior is said in `models.MODELS`.
LATENTS = {"normal": normal, "uniform": uniform}

# What inputs can be at the least and at the most, by `Network.latent`; "" is an image.
LIMITS = {"": (0.0, 1.0), "normal": (-jnp.inf, jnp.inf), "uniform": (-1.0, 1.0)}

# The standard deviation of an entry of a latent.
DEVIATIONS = {"normal": 1.0, "uniform": 3**-0.5}


def latent_prior(network: Network) -> str:
    """The prior of a generator's latents, a key of `LATENTS`; "" of a network whose input is an image."""
    return network.latent


def clip(latent: str, inputs: Array) -> Array:
    """Prior cut to what they can be: images to [0, 1], latents to where their prior has any mass."""
    return jnp.clip(inputs, *LIMITS[latent])
