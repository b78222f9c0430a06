"""Checks that a solve would work, and fit in memory, before anything is computed."""

import math
from typing import Any

import jax

from dci_jax.dci import cost
from dci_jax.dci.blocks import chain_blocks
from dci_jax.dci.inverter import largest
from dci_jax.dci.ridge import MATRICES
from dci_jax.errors import InputError
from dci_jax.network import Network, feature_shapes, split_index
from dci_jax.runtime import distributed, sharding


def check(
    network: Network,
    splits: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    num_images: int,
    num_validation: int,
    batch: int,
    num_corrections: int,
    kernel_size: int,
    max_unknowns: tuple[int, ...],
    samples_per_unknown: int,
) -> None:
    """Check the settings of `dci`.

    Args:
      network: the target.
      splits: split points to reconstruct from.
      shape: shape of the inputs to solve on.
      num_images: maximum number of inputs that a map is solved on, rounded up to whole batches.
      num_validation: validation inputs for choosing the ridge and the number of corrections; only procedural ones
        if `inputs` has any, else others drawn from the same source. A map solved on fewer inputs uses
        proportionally fewer; no map is solved on fewer inputs than `num_validation`.
      batch: inputs per batch, split across devices.
      num_corrections: maximum number of corrections in each inverter.
      kernel_size: maximum k of the k x k neighbourhoods.
      max_unknowns: maximum k^2 C of a first map and of a correction: k shrinks to fit, down to a single pixel. Bounds
        memory and time of a solve.
      samples_per_unknown: pixels per unknown that suffice. The large features of shallow blocks, which would take most of
        the time, supply them in a few inputs.

    Raises:
      InputError: the attack could not work, or would be crippled.
    """
    asked = dict(
        num_images=num_images,
        num_validation=num_validation,
        batch=batch,
        num_corrections=num_corrections,
        kernel_size=kernel_size,
        max_unknowns=max_unknowns,
        samples_per_unknown=samples_per_unknown,
    )
    _check_numbers(**asked)
    sharding.warn_if_uneven("dci.batch", batch)
    alone = [(name,) for name in splits] if any(block.tensors for block in network.blocks) else [splits]
    for names in alone:  # each has a chain of its own
        small = chain_blocks(network, names).replace(input_shape=shape)
        _check_memory(small, [split_index(small, name) for name in names], asked)


def _check_numbers(num_images, num_validation, batch, num_corrections, kernel_size, max_unknowns, samples_per_unknown):
    for field, value, least in (
        ("num_images", num_images, 1),
        ("num_validation", num_validation, 1),
        ("batch", batch, 1),
        ("num_corrections", num_corrections, 0),
        ("samples_per_unknown", samples_per_unknown, 1),
    ):
        if value < least:
            raise InputError(f"dci.{field} is {value}; give at least {least}.")
    if len(max_unknowns) != 2 or min(max_unknowns) < 1:
        raise InputError(
            f"dci.max_unknowns is {max_unknowns}; give two numbers of at least 1, for a first map and a correction."
        )
    if kernel_size not in (1, 3, 5, 7):
        raise InputError(f"dci.kernel_size is {kernel_size}; give 1, 3, 5 or 7 pixels.")


def _check_memory(network, depths, asked):
    """Raise InputError if inputs, features and matrices do not fit in memory; only arithmetic, nothing is allocated."""
    num_images, num_validation, max_unknowns = (asked[n] for n in ("num_images", "num_validation", "max_unknowns"))
    shapes, memory = feature_shapes(network), distributed.memory()
    each, most = 4 * (math.prod(shapes[0]) + max(math.prod(shapes[d]) for d in depths)), memory * jax.process_count()
    if (num_images + num_validation) * each > most:
        raise InputError(
            f"dci.num_images is {num_images}, dci.num_validation {num_validation}: these inputs and their features take "
            f"{(num_images + num_validation) * each / 2**30:.1f} GiB, but only {most / 2**30:.1f} are available; give fewer "
            f"than {most // each} in all."
        )
    found = cost.inverter_specs(network, max(depths), asked)
    for (g, ks), (inputs, matrices, _) in zip(found, cost.memory(network, found, asked), strict=True):
        wide, block = largest(g, ks), network.blocks[g.index].name
        # Added to the matrices on a CPU; an accelerator has its own memory for the inputs.
        beside = inputs / jax.process_count() * (jax.default_backend() == "cpu")
        if matrices > memory:
            raise InputError(
                f"dci.max_unknowns is {max_unknowns} and the inverter of {block} has {wide}: its "
                f"solve takes {matrices / 2**30:.1f} GiB, but this machine has {memory / 2**30:.1f}; "
                + (
                    f"give at most {math.isqrt(memory // (MATRICES * 8))}."
                    if wide > g.channels
                    else "use a machine with more, or the attack dci_trained."
                )
            )
        if matrices + beside > memory:
            raise InputError(
                f"dci.num_images is {num_images}, dci.num_validation {num_validation}: to solve the inverter of {block}, inputs and "
                f"features take {beside / 2**30:.1f} GiB and its matrices {matrices / 2**30:.1f}, but this machine has "
                f"{memory / 2**30:.1f}; give at most {int((memory - matrices) / beside * (num_images + num_validation))} in all, or "
                "fewer dci.max_unknowns."
            )


def check_shared(network: Network, splits: tuple[str, ...], shape: tuple[int, ...], **settings: Any) -> None:
    """Raise InputError as `check` does, or if a batch is too small for `dci_shared`."""
    check(network, splits, shape, **settings)
    batch = settings["batch"]
    if len(set(splits)) > batch:
        raise InputError(
            f"dci.batch is {batch}, but each of the {len(set(splits))} split points of a shared chain needs an input "
            "of its own in every batch; give at least that many."
        )
