"""Divide-and-Conquer Inversion with inverters that are solved, not trained: no gradient step, no learning rate.

Every split has a chain of its own (`dci`), or all share one (`dci_shared`). The deepest inverter is solved on true
features; each next one on the estimates of the chain so far, always with the true input as its target: it then
accounts for the errors that it will meet, as the conquer phase teaches trained inverters. Within an inverter
(`dci.solve_inverter`) corrections are solved one after another, as long as they help on validation images.
A chain for one split uses cycle consistency at every block: it compares the features that the estimate gives at the
split, through all remaining blocks, with those that were sent.
"""

import functools
import itertools
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.dci import precision
from dci_jax.dci.blocks import chain_blocks
from dci_jax.dci.chain import Chain
from dci_jax.dci.inverter import enough, inverter_spec, kernel_sizes
from dci_jax.dci.limits import check, check_shared
from dci_jax.dci.solve_inverter import rehearse, solve_inverter
from dci_jax.dci.solved_maps import finished, kept_inverter
from dci_jax.defenses import registry
from dci_jax.defenses.channel import NONE, Channel, sent, with_defense
from dci_jax.inputs.mixture import POOL, Prior, batches
from dci_jax.network import Network, feature_shapes, first_blocks, split_index, split_names
from dci_jax.runtime import compile_ahead, distributed, progress
from dci_jax.runtime.files import replacing
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")

RESTORED = "restored.json"  # beside a chain's folder: the share of places that `Defense.restore` finds
_ORDERED = 1024  # inputs whose features tell a defense's `restore` how they lie


def dci(
    network: Network,
    inputs: Prior,
    splits: tuple[str, ...],
    key: Array,
    folder: Path | None,
    *,
    channel: Channel = NONE,
    **settings: Any,
) -> dict[str, Chain]:
    """Solve a chain of inverters for each split.

    Args:
      network: the target, known to the attacker.
      inputs: what the inverters are solved on.
      splits: split points to reconstruct from.
      key: PRNG key.
      folder: stores one file per solved map; a killed run resumes from the last, a finished chain is only read.
      channel: the defense that this attacker knows: the deepest inverter is solved on defended features.
      **settings: see `check`.

    Returns:
      split point -> its chain.

    Raises:
      InputError: see `check`, or the features are not finite.
    """
    check(network, splits, inputs.shape, **settings)
    whole, chains = network, {}
    make = functools.cache(functools.partial(_inputs, inputs, key, settings))
    for name in splits:
        network = chain_blocks(whole, (name,))
        depth = split_index(network, name)
        restore = registry.find(channel.kind).restore
        if restore:
            few = make()[0][: math.ceil(_ORDERED / settings["batch"])]
            restore = restore.fit(channel.params, [first_blocks(network, depth, x) for x in few])
            _tell_restored(network, depth, channel, key, restore, make()[1][0], folder)
        # What is put right is solved for as if it were right: to expect the few features in wrong places costs all others.
        known = network if restore else with_defense(network, depth, channel)
        see = functools.partial(_sent, network, depth, NONE if restore else channel, key)
        found, mse = _chain(known, name, (depth,), inputs.shape, make, see, folder and folder / name, settings=settings)
        chains[name] = Chain.of(found, known, name, mse).replace(restore=restore)
    return chains


def dci_shared(
    network: Network,
    inputs: Prior,
    splits: tuple[str, ...],
    key: Array,
    folder: Path,
    **settings: Any,
) -> dict[str, Chain]:
    """Solve one chain for all splits: each inverter on true features and on the deeper ones' estimates, in equal parts.

    Takes as many solves as the deepest split has blocks, whatever the number of splits. Arguments, returns and errors as
    for `dci`; a batch needs an input for each split.
    """
    check_shared(network, splits, inputs.shape, **settings)
    network = chain_blocks(network, splits)
    depths = {name: split_index(network, name) for name in splits}
    order = tuple(sorted(set(depths.values()), reverse=True))
    make = functools.partial(_inputs, inputs, key, settings)
    see = functools.partial(_sent, network, order[0], NONE, key)
    found, mse = _chain(network, "all splits", order, inputs.shape, make, see, folder, settings=settings)
    return {name: Chain.of(found[len(found) - depth :], network, name, mse) for name, depth in depths.items()}


def _sent(network, depth, channel, key, made):
    """The features received for the inputs `made`, (for solving, for validation)."""
    noise = jax.random.fold_in(key, depth)
    return [
        [sent(network, depth, channel, jax.random.fold_in(noise, i), x) for i, x in enumerate(part, start)]
        for part, start in zip(made, (0, len(made[0])), strict=True)
    ]


@jax.jit
def _restored(restore, features):
    return restore(features)


def _tell_restored(network, depth, channel, key, restore, images, folder):
    """Log and keep the share of an image's places whose features come back right: what the report judges by."""
    true = first_blocks(network, depth, images)
    found = _restored(restore, sent(network, depth, channel, key, images))
    share = float(jnp.mean(jnp.all(jnp.abs(found - true) < 1e-3 * jnp.std(true), -1)))
    log.info("%s: %.0f %% of the features are put back where they belong", channel.label, 100 * share)
    if folder and distributed.is_leader():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / RESTORED, "w") as stream:
            json.dump({"share": share}, stream)
    distributed.barrier(RESTORED)


def _inputs(inputs, key, settings):
    """(for solving, for validation), each a list of batches."""
    key_inputs, key_held = jax.random.split(key)
    batch = settings["batch"]
    procedural = tuple(share for share in inputs.weights if share[0] != POOL)
    apart = replace(inputs, weights=procedural or inputs.weights)
    return [
        [distributed.stop_if_asked() or draw(number) for number in range(math.ceil(count / batch))]
        for draw, count in (
            (batches(inputs, key_inputs, batch), settings["num_images"]),
            (batches(apart, key_held, batch), settings["num_validation"]),
        )
    ]


def _chain(network, label, depths, shape, make, see, folder, *, settings):
    """(inverters, deepest first, of a chain that serves the splits at `depths`; the last one's validation error).

    `make` makes the inputs, `see` their received features at the deepest split; neither is called for a finished chain.
    The rows of a batch take turns in where they enter the chain: until then, an inverter sees their true features.
    """
    depth, num_corrections, inverters = max(depths), settings["num_corrections"], []
    small = network.replace(input_shape=shape)
    alone, shapes = depth if len(depths) == 1 else None, feature_shapes(small)
    inverter_specs = [inverter_spec(small, index, alone, shapes) for index in range(depth)]
    ks = [kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"]) for g in inverter_specs]
    folders = [folder and folder / f"{index:03d}" for index in range(depth)]
    taken = [finished(each) for each in folders]
    if all(taken):
        channels = [precision.channels(g, network) for g in inverter_specs]
        kept = list(itertools.starmap(kept_inverter, zip(folders, taken, inverter_specs, ks, channels, strict=True)))
        return tuple(each for each, _ in kept[::-1]), kept[0][1]
    made = make()
    batch = len(made[0][0])
    enter = np.resize(depths, batch)
    counts = _counts(inverter_specs, ks, made, batch, settings["samples_per_unknown"])
    # A shallower inverter may be solved on more inputs than a deeper one, which then has to reconstruct all of them.
    needs = [np.max(counts[: index + 1], 0) for index in range(depth)]
    total, before = (num_corrections + 1) * sum(part for part, _ in counts), 0
    with compile_ahead.threads() as pool, progress.bar(f"dci: {label}", total) as update:
        compiling = _compiling(pool, network, inverter_specs, ks, counts, made[0][0], num_corrections)
        found = seen = see(made)
        for index in reversed(range(depth)):
            g, block = inverter_specs[index], split_names(network)[index]
            used, found, seen = (
                [part[:need] for part, need in zip(parts, needs[index], strict=True)] for parts in (made, found, seen)
            )
            for ready in compiling[index]:
                ready.result()
            true = [[first_blocks(network, index, x) for x in part] for part in used]
            first = [
                [part[:count] for part, count in zip(parts, counts[index], strict=True)]
                for parts in (seen, found, true)
            ]
            solved, estimates, mse = solve_inverter(
                g,
                network,
                *first,
                folder=folders[index],
                num_corrections=num_corrections,
                ks=ks[index],
                update=functools.partial(_shown, update, before),
                label=f"{label}: {block}",
            )
            rest = [
                list(zip(a[count:], b[count:], strict=True))
                for a, b, count in zip(seen, found, counts[index], strict=True)
            ]
            found = [
                part + [solved(network, *pair) for pair in more] for part, more in zip(estimates, rest, strict=True)
            ]
            inverters.append(solved)
            if (enter <= index).any():
                found = [
                    [_where(enter > index, a, b) for a, b in zip(*parts, strict=True)]
                    for parts in zip(found, true, strict=True)
                ]
            before += (num_corrections + 1) * counts[index][0]
    return tuple(inverters), mse


def _compiling(pool, network, inverter_specs, ks, counts, x, num_corrections):
    """For each inverter, what it needs to have been compiled; the deepest, which is solved first, begins."""
    depth, compiling = len(inverter_specs), {index: [] for index in range(len(inverter_specs))}
    if not compile_ahead.possible():
        return compiling
    with compile_ahead.rehearsal(pool) as rehearsal:
        features = [first_blocks(network, index, x) for index in range(depth + 1)]
        for index in reversed(range(depth)):
            shapes = features[depth], features[index + 1], features[index]
            rehearse(
                inverter_specs[index],
                network,
                *shapes,
                counts[index],
                num_corrections=num_corrections,
                ks=ks[index],
            )
            compiling[index] = rehearsal.taken()
    return compiling


def _counts(inverter_specs, ks, made, batch, samples_per_unknown):
    """Number of batches for each inverter, (for solving, for validation)."""
    images, least = (len(part) * batch for part in made)
    parts = [math.ceil(count / batch) for count in enough(inverter_specs, ks, images, least, samples_per_unknown)]
    return [(part, math.ceil(part * len(made[1]) / len(made[0]))) for part in parts]


def _shown(update, before, done):
    update(before + done)


@jax.jit
def _where(rows, a, b):
    return jnp.where(rows.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
