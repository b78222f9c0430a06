"""What an attacker trains on: an endless mixture of procedural images and a bank of finished ones."""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from dci_jax.errors import InputError
from dci_jax.procedural import GENERATORS

Array = jax.Array

BANK = "bank"


@flax.struct.dataclass
class Inputs:
    """A mixture of images.

    Attributes:
      bank: uint8 [N, H, W, C]: synthesised images; real ones only for an oracle.
      shares: ((source, weight), ...): "bank" or a key of `GENERATORS`, and its share of a batch.
    """

    bank: Array
    shares: tuple[tuple[str, float], ...] = flax.struct.field(pytree_node=False)


def mixture(bank: Array, shares: dict[str, float]) -> Inputs:
    """The inputs with these shares, scaled to sum to one; a source of share 0 is left out.

    Raises:
      InputError: an unknown source, a negative share, no share at all, or an empty bank.
    """
    known = (BANK, *GENERATORS)
    for source, share in shares.items():
        if source not in known:
            raise InputError(
                f"No input source is called {source!r}; choose from: {', '.join(known)}."
            )
        if share < 0:
            raise InputError(f"The share of {source} is {share}; give 0 or more.")
    total = sum(shares.values())
    if total == 0:
        raise InputError(
            "All shares of the inputs are 0; give at least one source a positive share."
        )
    if shares.get(BANK, 0) and len(bank) == 0:
        raise InputError("The inputs take a share from an empty bank; synthesise some images.")
    return Inputs(bank, tuple((s, share / total) for s, share in shares.items() if share > 0))


@functools.partial(jax.jit, static_argnames="count")
def draw(inputs: Inputs, key: Array, count: int) -> Array:
    """A batch: images [count, H, W, C] in [0, 1], flipped at random, in random order."""
    shape = inputs.bank.shape[1:]
    key_order, key_flip, *keys = jax.random.split(key, 2 + len(inputs.shares))
    parts, taken, target = [], 0, 0.0
    for source_key, (source, share) in zip(keys, inputs.shares, strict=True):
        target += share * count
        number, taken = round(target) - taken, round(target)
        if source == BANK:
            chosen = jax.random.randint(source_key, (number,), 0, len(inputs.bank))
            parts.append(inputs.bank[chosen] / 255.0)
        else:
            parts.append(GENERATORS[source](source_key, number, shape))
    images = jax.random.permutation(key_order, jnp.concatenate(parts))
    flip = jax.random.bernoulli(key_flip, 0.5, (count, 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)
