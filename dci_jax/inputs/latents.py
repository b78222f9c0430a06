"""The priors of generators: where the latents that a generator was trained on come from."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.network import Network
from dci_jax.typing import Array


def normal(key: Array, count: int, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Latents [count, *shape], float32, each entry standard normal."""
    return jax.random.normal(key, (count, *shape))


def uniform(key: Array, count: int, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Latents [count, *shape], float32, each entry uniform in [-1, 1)."""
    return jax.random.uniform(key, (count, *shape), minval=-1.0, maxval=1.0)


# name -> (key, count, shape) -> latents; `models.MODELS` names each network's prior.
LATENTS = {"normal": normal, "uniform": uniform}

# Minimum and maximum of inputs, by `Network.latent`; "" is an image.
LIMITS = {"": (0.0, 1.0), "normal": (-jnp.inf, jnp.inf), "uniform": (-1.0, 1.0)}

# The standard deviation of an entry of a latent.
DEVIATIONS = {"normal": 1.0, "uniform": 3**-0.5}


def latent_prior(network: Network) -> str:
    """The prior of a generator's latents, a key of `LATENTS`; "" for a network whose input is an image."""
    return network.latent


def clip(latent: str, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Clip inputs to their range: images to [0, 1], latents to the support of their prior."""
    return jnp.clip(inputs, *LIMITS[latent])
