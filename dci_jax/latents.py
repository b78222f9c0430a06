"""The priors of generators: where the latent codes that a generator was trained on come from."""

import jax

Array = jax.Array


def normal(key: Array, count: int, shape: tuple[int, ...]) -> Array:
    """Codes [count, *shape], float32, each entry standard normal."""
    return jax.random.normal(key, (count, *shape))


def uniform(key: Array, count: int, shape: tuple[int, ...]) -> Array:
    """Codes [count, *shape], float32, each entry uniform in [-1, 1)."""
    return jax.random.uniform(key, (count, *shape), minval=-1.0, maxval=1.0)


# name -> (key, count, shape) -> codes; which network has which prior is said in `models.MODELS`.
LATENTS = {"normal": normal, "uniform": uniform}
