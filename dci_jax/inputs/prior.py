"""Fit procedural images to the colours and sharpness of the network's training images, as its BatchNorm layers record them.

A solved inverter depends on second moments: colour, spectrum, contrast. The running mean and variance of a BatchNorm layer
after a convolution w are w^T E[p] and w^T Cov[p] w for patches p of the network's training images: known
equations about their covariance. So one linear filter, a 3 x 3 matrix of colours for each octave of spatial frequency, is
fitted until filtered procedural images match the running statistics of the early layers. It has 66 numbers, shared by
all images, too few to overfit single pixels. It starts from what is known of nearly
every photograph: JPEG stores its colours at half the resolution (4:2:0).

Random crops of padded images (He et al., CVPR 2016, section 4.2: 4 pixels) add black borders to those statistics;
the filter is fitted with each border that unfiltered images do not rule out, and the best fit is used.
"""

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from dci_jax.errors import InputError
from dci_jax.inputs.mixture import POOL, Prior, batches
from dci_jax.inputs.spectrum import BANDS, filtered, halved, identity
from dci_jax.network import Network, feature_shapes, running_statistics, trace
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.files import damaged, read_arrays, replacing
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")

_DRAWN = 4  # batches of procedural images, used in turn
_SMOOTH = 1e-3  # weight of the mean squared difference of neighbouring octaves' matrices
_FITS = 0.25  # half a deviation; a filter that leaves more is not used: the statistics are not those of images
_WORSE = 2.0  # a border whose unfiltered images differ by so many times the best one's mismatch is not fitted
_EPSILON = 1e-5  # as BatchNorm adds to a variance: dead channels carry no information


def fit_filter(
    network: Network,
    inputs: Prior,
    key: Array,
    file: Path | None,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    padding: Sequence[int],
) -> Prior:
    """Fit a filter to the mixture's procedural images; returns it unchanged if there is nothing to fit, which is logged.

    Args:
      network: the target with its BatchNorm layers.
      inputs: the mixture; images of a pool are left unchanged.
      key: PRNG key.
      file: .npz that stores the filter; an existing one is read. None: nothing is written.
      steps: Adam updates; 0: leave the procedural images unchanged.
      batch: procedural images per update.
      learning_rate: initial learning rate of Adam; decays to 0 on a cosine schedule.
      padding: candidate widths in pixels of the black border in the network's training crops.

    Raises:
      InputError: `file` is damaged.
    """
    depth = blocks_to_fit(network, inputs.weights, steps)
    if not depth:
        if steps:
            log.info(
                "the prior is not fitted: no procedural images, or no BatchNorm layer of %s to fit them to",
                network.name,
            )
        return inputs
    if file is None or not distributed.broadcast(file.exists()):
        draw = batches(replace(inputs, pool=(), weights=_procedural(inputs.weights)), key, batch)
        drawn = [draw(number) for number in range(_DRAWN)]
        fits = _fits(network, drawn, key, padding, depth, steps, learning_rate)
        best = min(fits, key=lambda fit: fit["after"])
        if file and distributed.is_leader():
            with replacing(file, "wb") as stream:
                np.savez(stream, **best)
        distributed.barrier("filter")
    found = best if file is None else read_arrays(file)
    if found.keys() != {"bands", "shift", "border", "before", "after"} or found["bands"].shape != (
        BANDS,
        *(2 * network.input_shape[2:]),
    ):
        raise damaged(file, f"it holds {', '.join(found) or 'nothing'}")
    before, after = float(found["before"]), float(found["after"])
    if not after < min(before, _FITS):
        log.warning(
            "no filter brings procedural images near the BatchNorm statistics of %s (mismatch %.3g, %.3g without): they are left "
            "unchanged; expected of a network that is not trained, else check its weights and normalization",
            network.name,
            after,
            before,
        )
        return inputs
    log.info(
        "procedural images filtered: BatchNorm statistics of the first %d blocks differ by %.3f instead of %.3f "
        "deviations, with borders of %d pixels",
        depth,
        math.sqrt(after),
        math.sqrt(before),
        found["border"],
    )
    fitted = np.float32(found["bands"]), np.float32(found["shift"])
    return replace(inputs, filter=sharding.put(fitted, sharding.replicated()))


def check(steps: int, padding: Sequence[int], side: int) -> None:
    """Raise InputError if `fit_filter` could not work on images of that side."""
    if steps and not padding:
        raise InputError("prior_fitting.padding is (); give a border to try, such as (0,), or prior_fitting.steps=0.")
    for border in padding:
        if border > side // 2:
            raise InputError(
                f"prior_fitting.padding has {border}, but the images have {side} pixels; give half of that at most."
            )


def blocks_to_fit(network: Network, weights: Sequence[tuple[str, float]], steps: int) -> int:
    """Number of blocks whose statistics a filter is fitted to: 0 without steps, procedural images or BatchNorm."""
    return told_by(network) if steps and _procedural(weights) else 0


def told_by(network: Network) -> int:
    """Number of blocks whose statistics reflect colours and spectrum: those up to the first that downsamples again.

    0 without BatchNorm. Deeper layers respond to image content, which no filter changes: for a CIFAR ResNet-20, fitting
    to all of them moved images away from the spectrum of its training images.
    """
    shapes, layers = feature_shapes(network)[1:], running_statistics(network)
    depth = next((depth for depth, tree in enumerate(layers, 1) if jax.tree.leaves(tree)), 0)
    if not depth:
        return 0
    size = shapes[depth - 1][:-1]
    while depth < len(shapes) and shapes[depth][:-1] == size:
        depth += 1
    return depth


def mismatch(
    padding: int,
    depth: int,
    fitted: tuple[Float[Array, "7 C C"], Float[Array, "C"]],
    network: Network,
    batch: tuple[Float[Array, "B H W C"], Array],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Mean over BatchNorm layers of (mean - running mean)^2 / running var + log(var / running var)^2, means over channels.

    Args:
      padding: of the random crops, in pixels.
      depth: number of blocks that count.
      fitted: as `spectrum.filtered` takes them.
      network: the target.
      batch: (procedural images in [0, 1], (row, column) of each one's crop, from 0 to twice the padding).

    Returns:
      (loss, terms): the loss adds a penalty on differences between neighbouring octaves, which fixes what no layer
      determines.
    """
    bands, shift = fitted
    images, places = batch
    _, found = trace(network, _crops(filtered(images, bands, shift), places, padding), 0, depth)
    new, old = (_layers(tree) for tree in (found, running_statistics(network)[:depth]))
    terms = []
    for name, layer in old.items():
        mean, var = new[name]["mean"], new[name]["var"] + _EPSILON
        known = layer["var"] + _EPSILON
        terms.append(jnp.mean((mean - layer["mean"]) ** 2 / known) + jnp.mean(jnp.log(var / known) ** 2))
    distance = jnp.mean(jnp.stack(terms))
    return distance + _SMOOTH * jnp.mean(jnp.diff(bands - halved(len(shift)), axis=0) ** 2), {"mismatch": distance}


def _fits(network, drawn, key, padding, depth, steps, learning_rate):
    """For each likely padding the filter, and the mismatch before and after; arrays and numbers as they are stored.

    One program for all: each crop is taken out of the widest border, from the places that a narrower one has.
    """
    widest, count, channels = max(padding), len(drawn[0]), network.input_shape[2]
    loss = functools.partial(mismatch, widest, depth)
    optimizer, measure = optax.adam(optax.cosine_decay_schedule(learning_rate, steps)), jax.jit(loss)
    start = halved(channels), np.zeros(channels, np.float32)
    unchanged = sharding.put((identity(channels), start[1]), sharding.replicated())

    def batch(border, number):
        places = jax.random.randint(jax.random.fold_in(key, number), (count, 2), 0, 2 * border + 1) + widest - border
        return drawn[number % len(drawn)], sharding.put(np.asarray(places), sharding.batch_sharded())

    def distance(fitted, border):
        found = [measure(fitted, network, batch(border, number))[1]["mismatch"] for number in range(len(drawn))]
        return np.mean([float(value) for value in found])

    before = {border: distance(unchanged, border) for border in padding}
    for border in padding:
        if before[border] > _WORSE * min(before.values()):
            log.info("borders of %d pixels are unlikely (mismatch %.3g)", border, before[border])
            continue
        within, label = functools.partial(batch, border), f"prior fitting, borders of {border} pixels"
        fitted, _ = minimize(loss, start, network, within, steps=steps, optimizer=optimizer, label=label)
        bands, shift = sharding.fetch(fitted)
        after = distance(fitted, border)
        yield {"bands": bands, "shift": shift, "border": border, "before": before[border], "after": after}


def _procedural(weights):
    return tuple(share for share in weights if share[0] != POOL)


def _crops(images, places, padding):
    """Images [B, H, W, C] with a black border around them, cut to their size at the places [B, 2]."""
    if not padding:
        return images
    bordered = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def cut(image, place):
        return jax.lax.dynamic_slice(image, (*place, 0), images.shape[1:])

    return jax.vmap(cut)(bordered, places)


def _layers(trees):
    """{path: {"mean": [C], "var": [C]}} of all BatchNorm layers."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(trees):
        found.setdefault(jax.tree_util.keystr(path[:-1]), {})[path[-1].key] = leaf
    return found
