"""Inputs without data: images whose BatchNorm statistics match the network's running statistics.

DeepInversion (Yin et al., CVPR 2020): start from noise, or better from procedural images, and use
gradient descent to match the network's batch statistics on them to its running statistics, and
its prediction to a chosen label; small images first, then large ones.
"""

import functools
import logging
import shutil
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from dci_jax import losses
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Shards
from dci_jax.inputs.procedural import GENERATORS
from dci_jax.inputs.spectrum import filtered
from dci_jax.network import Network, logits, run, running_statistics, trace, with_dtype
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.files import damaged, made, read_arrays, replacing
from dci_jax.runtime.training_loop import minimize
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")


def synthesize(
    network: Network,
    key: Array,
    folder: Path,
    *,
    batches: int,
    batch: int,
    stages: tuple[tuple[int, int], ...],
    start: str,
    learning_rate: float,
    warmup: int,
    betas: tuple[float, float],
    statistics: float,
    first: float,
    cross_entropy: float,
    total_variation: float,
    l2: float,
    jitter: int,
    precision: str,
    filter: tuple[Array, Array] | None = None,
) -> Shards:
    """Synthesise images from the network alone.

    A network without BatchNorm has no statistics to match: then only the label and the image priors
    shape the images, which is far weaker; a warning is logged.

    Args:
      network: the target.
      key: PRNG key.
      folder: stores two files for each finished batch, the images and their labels with a checksum; a killed run resumes
        after the last, or from the checkpoint of the unfinished one.
      batches: number of batches.
      batch: images per batch; their joint statistics are matched, so use hundreds.
      stages: ((side in pixels, Adam updates), ...): the network sees the images averaged
        down to that side; the optimiser restarts in each stage.
      start: the initial images, a key of `procedural.GENERATORS`; the paper's is "white_noise".
      learning_rate: initial learning rate of Adam, in pixel units of [0, 1]; decays to zero on a cosine schedule.
      warmup: warmup updates in each stage, from a rate of zero.
      betas: Adam's b1 and b2.
      statistics, cross_entropy, total_variation, l2: weights of the loss terms.
      first: weight of the first BatchNorm layer, relative to the others.
      jitter: maximum shift of the images in each step, in pixels.
      precision: "float32", or "bfloat16" for the network's convolutions; statistics and losses are
        always float32.
      filter: (bands, shift) of `spectrum.filtered`, applied to the initial images; None: no filter.

    Returns:
      uint8 [H, W, C], `batches * batch` of them, on disk.

    Raises:
      InputError: the network has neither BatchNorm layers nor a head, or a stage's side does not
        divide the image's.
    """
    check(network, batches, stages)
    remembers = bool(jax.tree.leaves(running_statistics(network)))
    if batches and not remembers:
        log.warning(
            "%s has no BatchNorm layer, so there are no statistics to match: only their label and the "
            "image priors shape its images, and procedural images matter more",
            network.name,
        )
    weights = {"statistics": statistics if remembers else 0.0, "cross_entropy": cross_entropy}
    weights |= {"total_variation": total_variation, "l2": l2, "first": first}
    weights = {name: np.float32(weight) for name, weight in weights.items()}
    weights = sharding.put(weights, sharding.replicated())
    frozen = with_dtype(network, precision), weights
    size = network.input_shape[0]
    # Made once for all batches, because `minimize` compiles once per loss object.
    seen_at = [functools.partial(synthesis_loss, jitter, size // side) for side, _ in stages]
    plan = [
        (loss, steps, _optimizer(learning_rate, warmup, steps, tuple(betas)), f"{side} px")
        for loss, (side, steps) in zip(seen_at, stages, strict=True)
    ]
    files, unfinished = [], made(folder / "unfinished")
    for number in range(batches):
        file = folder / f"batch_{number:05d}.npy"
        if not distributed.broadcast(file.exists() and _labels(file).exists()):
            key_start, key_labels, key_steps = jax.random.split(jax.random.fold_in(key, number), 3)
            images = _start(start, key_start, batch, network.input_shape, filter)
            classes = network.head and jax.eval_shape(_scores, network, images).shape[1]
            labels = np.asarray(jax.random.randint(key_labels, (batch,), 0, classes or 1))
            at, of = made(unfinished / str(number)), f"synthesis: batch {number + 1} of {batches}"
            _keep(_matched(images, labels, frozen, plan, key_steps, at, of), labels, file)
            if distributed.is_leader():
                shutil.rmtree(at)
        _check_whole(file, (batch, *network.input_shape))
        files.append(file)
    if distributed.is_leader():
        shutil.rmtree(unfinished)
    return Shards(tuple(files), (batches, batch, *network.input_shape))


def _matched(images, labels, frozen, plan, key, folder, label):
    """The images after the stages of a plan, [(loss, steps, optimizer, name), ...], on the devices."""
    network, weights = frozen
    known = network, sharding.put(labels, sharding.batch_sharded()), weights
    for stage, (loss, steps, optimizer, name) in enumerate(plan):
        images, _ = minimize(
            loss,
            images,
            known,
            functools.partial(jax.random.fold_in, jax.random.fold_in(key, stage) if stage else key),
            steps=steps,
            optimizer=optimizer,
            project=clip,
            layout=sharding.batch_sharded(),
            folder=folder / str(stage),
            save_every=500,
            label=f"{label} at {name}",
        )
    return images


def _keep(images, labels, file):
    """Write a finished batch: its images in 8 bits, its labels with a checksum."""
    pixels = np.round(sharding.fetch(images) * 255).astype(np.uint8, order="C")
    if distributed.is_leader():
        with replacing(_labels(file), "wb") as stream:
            np.savez(stream, labels=labels, crc32=zlib.crc32(pixels))
        with replacing(file, "wb") as stream:
            np.save(stream, pixels)
    distributed.barrier(file.name)


def _check_whole(file: Path, shape: tuple[int, ...]) -> None:
    try:
        found = np.load(file, mmap_mode="r")
    except Exception as error:  # NumPy's reader of headers raises errors of many kinds
        raise damaged(file, error) from error
    if found.shape != shape or found.dtype != np.uint8:
        raise damaged(file, f"it holds {found.dtype} {list(found.shape)} instead of uint8 {list(shape)}")
    kept = read_arrays(_labels(file))
    if kept.keys() != {"labels", "crc32"} or kept["labels"].shape != shape[:1]:
        raise damaged(_labels(file), f"it holds {', '.join(kept) or 'nothing'}")
    if zlib.crc32(found) != kept["crc32"]:
        raise damaged(file, "its checksum differs")


def check(network: Network, batches: int, stages: tuple[tuple[int, int], ...]) -> None:
    """Raise InputError if `synthesize` could not work; see there."""
    size = network.input_shape[0]
    if batches and network.head is None and not jax.tree.leaves(running_statistics(network)):
        raise InputError(
            f"{network.name} has no BatchNorm layer and no head, so nothing can be synthesised from "
            "it; set synthesis.batches=0 and inputs.synthetic=0."
        )
    if batches and not stages:
        raise InputError(
            "synthesis.stages is (), so nothing would be optimised; give (side, steps), or set synthesis.batches=0."
        )
    for side, steps in stages if batches else ():
        if side < 1 or size % side or network.input_shape[1] % (size // side) or steps < 1:
            raise InputError(
                f"synthesis.stages has ({side}, {steps}); give sides that divide the image's {size} "
                "pixels, each with at least 1 step."
            )


def synthesis_loss(
    jitter: int, factor: int, images: Float[Array, "B H W C"], frozen: tuple, key: Array
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """cross-entropy + BatchNorm statistics + total variation + l2 (DeepInversion, eqs. 2 to 4).

    Args:
      jitter: largest shift in pixels, of the images before they are averaged down.
      factor: the network sees the images averaged over `factor` x `factor` pixels.
      images: [B, H, W, C] in [0, 1].
      frozen: (network, labels [B], weights).
      key: for the shift and the flip of this step.

    Returns:
      (loss, terms), the terms without their weights.
    """
    network, labels, weights = frozen
    key_shift, key_flip = jax.random.split(key)
    small = average(images, factor)
    reach = jitter // factor
    shift = jax.random.randint(key_shift, (2,), -reach, reach + 1)
    seen = jnp.roll(small, shift, (1, 2))
    seen = jnp.where(jax.random.bernoulli(key_flip), seen[:, :, ::-1], seen)
    features, found = trace(network, seen)
    terms = {
        "total_variation": losses.total_variation(small),
        "l2": jnp.mean((images - 0.5) ** 2),
    }
    running = running_statistics(network)
    if jax.tree.leaves(running):
        terms["statistics"] = losses.batch_norm_statistics(found, running, weights["first"])
    if network.head:
        scores = logits(network, features[-1])
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        terms["cross_entropy"] = entropy.mean()
    return sum(weights[name] * term for name, term in terms.items()), terms


def verifier_accuracy(network: Network, images: Shards, batch: int) -> float:
    """The share of synthesised images whose label another network (or this one) predicts.

    The "verifier" of DeepInversion: images that a network of another architecture recognises are
    not merely adversarial patterns of the first.
    """
    labels = np.concatenate([read_arrays(_labels(file))["labels"] for file in images.files])
    right = []
    for start in range(0, len(images), batch):
        pixels = np.stack([images[i] for i in range(start, min(start + batch, len(images)))])
        seen = sharding.put(sharding.padded(pixels / np.float32(255)), sharding.batch_sharded())
        right.append(sharding.fetch(_answers(network, seen))[: len(pixels)])
    return float(np.mean(np.concatenate(right) == labels))


def average(images: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w C"]:
    """[B, H, W, C] -> [B, H / factor, W / factor, C], the mean of each square."""
    batch, height, width, channels = images.shape
    images = images.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return images.mean((2, 4))


def clip(images: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Clip to valid pixels, [0, 1]."""
    return jnp.clip(images, 0, 1)


@functools.cache  # an optimiser is a static argument of the jitted step
def _optimizer(learning_rate, warmup, steps, betas):
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(warmup, steps - 1), steps)
    rate = rate if warmup else optax.cosine_decay_schedule(learning_rate, steps)
    return optax.adam(rate, *betas)


def _labels(file: Path) -> Path:
    return file.with_name(file.name.replace("batch", "labels")).with_suffix(".npz")


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _start(name, key, count, shape, filter):
    images = GENERATORS[name](key, count, shape)
    return filtered(images, *filter) if filter else images


def _scores(network, images):
    return logits(network, run(network, images))


@jax.jit
def _answers(network, images):
    return _scores(network, images).argmax(1)
