"""What an attacker trains on: an endless mixture of procedural images and a pool of synthesized ones; or latents.

The pool stays on disk; grain reads a few batches ahead, so that host memory does not grow with it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError
from dci_jax.inputs.latents import LATENTS
from dci_jax.inputs.procedural import GENERATORS
from dci_jax.inputs.spectrum import filtered
from dci_jax.runtime import sharding
from dci_jax.typing import Array

POOL = "synthetic"
_SOURCES = GENERATORS | LATENTS  # key, count, shape -> inputs
_AHEAD = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)  # in batches


@dataclass(frozen=True)
class Shards:
    """The images of many .npy files, uint8 [n, H, W, C] each, as one sequence that is not held in memory.

    Attributes:
      files: all of one shape.
      shape: (files, n, H, W, C).
    """

    files: tuple[Path, ...]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def __getitem__(self, index: int) -> np.ndarray:
        file, place = divmod(index, self.shape[1])
        one = math.prod(self.shape[2:])
        # The images are the file's last bytes. np.load would parse its header, which fails now and then in
        # the threads of Python 3.11 (SystemError: AST constructor recursion depth mismatch).
        start = self.files[file].stat().st_size + (place - self.shape[1]) * one
        return np.fromfile(self.files[file], np.uint8, one, offset=start).reshape(self.shape[2:])


@dataclass(frozen=True)
class Prior:
    """A mixture of images; for a generator, latents from its prior.

    Attributes:
      pool: sequence of uint8 [H, W, C]: synthesised images; real ones only for an oracle.
      weights: ((source, weight), ...): "synthetic" or a key of `GENERATORS` or `LATENTS`, and its share of
        a batch.
      shape: (H, W, C) of the images, to which those of the pool are cropped at random; or shape of
        one latent.
      filter: (bands, shift) of `spectrum.filtered`, applied to procedural images; None: no filter.
    """

    pool: Sequence[np.ndarray] | np.ndarray | Shards
    weights: tuple[tuple[str, float], ...]
    shape: tuple[int, ...]
    filter: tuple[Array, Array] | None = None

    def sample(self, key: Array, count: int) -> Array:
        """Draw `count` images [count, H, W, C] in [0, 1], or latents [count, C]; the same key gives the same."""
        return batches(self, key, count)(0)

    def __repr__(self) -> str:
        weights = ", ".join(f"{source} {share:.2g}" for source, share in self.weights)
        filtered = ", filtered to BatchNorm statistics" if self.filter else ""
        return f"Prior({weights}, {list(self.shape)}{filtered})"


def mixture(
    weights: dict[str, float], stored: int, known: Sequence[str] = (POOL, *GENERATORS)
) -> tuple[tuple[str, float], ...]:
    """`Prior.weights` scaled to sum to one, without those that are 0.

    Args:
      weights: source -> weight.
      stored: size of the pool; 0 if it is empty.
      known: names of sources to choose from.

    Raises:
      InputError: an unknown source, a negative weight, no weight at all, or an empty pool.
    """
    for source, share in weights.items():
        if source not in known:
            raise InputError(f"No input source is called {source!r}; choose from: {', '.join(known)}.")
        if share < 0:
            raise InputError(f"The weight of {source} is {share}; give 0 or more.")
    total = sum(weights.values())
    if total == 0:
        raise InputError("All weights of the inputs are 0; give at least one source a positive weight.")
    if weights.get(POOL, 0) and not stored:
        raise InputError(
            f"inputs.synthetic is {weights[POOL]:g}, but no image is synthesised; give synthesis.batches=1 or more, or inputs.synthetic=0."
        )
    return tuple((s, share / total) for s, share in weights.items() if share > 0)


def batches(inputs: Prior, key: Array, count: int) -> Callable[[int], Array]:
    """Step number -> the batch of that step: images [count, H, W, C] in [0, 1], or latents [count, C].

    Args:
      inputs: the mixture.
      key: the same key and number give the same batch, whatever the earlier calls.
      count: images per batch.
    """
    ends = np.round(np.cumsum([share for _, share in inputs.weights]) * count).astype(int)
    counts = tuple(
        (source, int(number)) for (source, _), number in zip(inputs.weights, np.diff(ends, prepend=0), strict=True)
    )
    key_pool, key_mix = jax.random.split(key)
    stored = dict(counts).get(POOL, 0)
    read = _reader(inputs, int(jax.random.bits(key_pool)), stored) if stored else None

    def batch(number: int) -> Array:
        rows = read(number) if read else np.zeros((0, *inputs.shape), np.uint8)
        found = sharding.put_local(rows, stored)
        return mix(counts, inputs.shape, jax.random.fold_in(key_mix, number), found, inputs.filter)

    return batch


@functools.partial(jax.jit, static_argnums=(0, 1))
def mix(
    counts: tuple[tuple[str, int], ...],
    shape: tuple[int, ...],
    key: Array,
    found: Array,
    filter: tuple[Array, Array] | None = None,
) -> Array:
    """Images in [0, 1], flipped at random, in random order: `found` (uint8) and new procedural ones.

    Latents are drawn from their prior and not flipped.

    Args:
      counts: (source, how many) for each source.
      shape: (H, W, C), or (C,) of latents.
      key: PRNG key.
      found: uint8 [n, H, W, C] from the pool.
      filter: as in `Prior`.
    """

    def made(source, source_key, number):
        if source == POOL:
            return found / 255.0
        new = _SOURCES[source](source_key, number, shape)
        # In 8 bits, like the private images: colours that the filter removes entirely would leave singular equations.
        return jnp.round(255 * filtered(new, *filter)) / 255 if filter else new

    key_order, key_flip, *keys = jax.random.split(key, 2 + len(counts))
    images = jnp.concatenate(
        [made(source, source_key, number) for source_key, (source, number) in zip(keys, counts, strict=True)]
    )
    images = jax.random.permutation(key_order, images)
    if len(shape) == 3:
        flip = jax.random.bernoulli(key_flip, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(flip, images[:, :, ::-1], images)
    # An uneven batch is copied: JAX 0.12 refuses to shard it unevenly.
    return sharding.constrain(images, sharding.fitting(images, sharding.batch_sharded()))


def _reader(inputs, seed, count):
    """Step number -> this process's share of uint8 [count, H, W, C] from the pool.

    It is read ahead as long as the numbers go up by one.
    """
    height, width, _ = inputs.shape

    def crop(image, rng):
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        return image[top : top + height, left : left + width]

    dataset = grain.MapDataset.source(inputs.pool).seed(seed % 2**32).shuffle().repeat()
    rows, share = sharding.local_rows(count)
    dataset = dataset.random_map(crop).batch(rows)[share :: count // rows]
    place = {"next": None}

    def read(number):
        if place["next"] != number:
            place["iterator"] = iter(dataset[number:].to_iter_dataset(_AHEAD))
        place["next"] = number + 1
        return next(place["iterator"])

    return read
