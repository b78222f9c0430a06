"""Private images: which ones, what may happen to their features, and how near a reconstruction comes."""

import functools
import logging
import math
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dci_jax import metrics, models
from dci_jax.blocks import Network, classes, features_at, logits, run, split_index
from dci_jax.cases.case import Case, Reconstruct
from dci_jax.cases.defenses import DEFENSES
from dci_jax.cases.kept import each
from dci_jax.data.images import Images, photographs, without
from dci_jax.data.images import load as read_images
from dci_jax.errors import InputError
from dci_jax.inputs import synthesis
from dci_jax.inputs.mixture import Inputs, mixture
from dci_jax.report import images as page
from dci_jax.runtime import parallel
from dci_jax.runtime.workdir import keep, keep_originals, present

Array = jax.Array

log = logging.getLogger("dci_jax")


def load(config: ConfigDict, network: Network, splits: tuple[str, ...]) -> Case:
    """The `Case` of a config whose target takes images.

    Args:
      config: as in configs/default.py.
      network: the target.
      splits: split points to be read back.

    Raises:
      InputError: a sentence with the value and the cure.
    """
    _check_shape(network)
    put = functools.partial(parallel.put, sharding=parallel.copied())
    trained = put(network)
    device = put(models.deploy(config.target.name, network)) if config.target.deploy else trained
    verifier = None
    if config.verifier.name:
        verifier = put(models.load(config.verifier.name, config.verifier.weights))
    synthesis.check(network, config.synthesis.batches, config.synthesis.stages)
    shares, shape = learned_from(config, network)
    side = shape[0]
    if side > network.input_shape[0]:
        raise InputError(
            f"inputs.side is {side}, but {network.name} takes images of {network.input_shape[0]} "
            "pixels; give a smaller side, or 0 for the network's own."
        )
    private, oracle = private_images(config, network), None
    if config.oracle.images:
        real = read_images(
            config.oracle.images, network.input_shape[0], crop=network.crop, flag="--config.oracle.images"
        )
        oracle = without(real, private).pixels
        if len(oracle) == 0:
            raise InputError(f"All images of {config.oracle.images} are also evaluated; give the oracle others.")
    return Case(
        network=device,
        trained=trained,
        splits=splits,
        shares=shares,
        shape=shape,
        names=private.names,
        floors=floors(private.pixels, config.seed),
        perturbations=dict.fromkeys(splits, tuple(config.defenses)),
        begin=functools.partial(_begin, private),
        learn=functools.partial(_learn, config, trained, verifier, shares, shape),
        guess=functools.partial(guess, device, private, config.batch),
        read=functools.partial(read, device, private, config.batch),
        finish=lambda readers, evaluation: None,
        report=page.write,
        oracle=oracle,
        depends={
            "target.weights": network,
            "data.labels": private.labels,
            "oracle.images": oracle,
            "verifier.weights": verifier,
        },
    )


def private_images(config: ConfigDict, network: Network) -> Images:
    """The images that a config names for evaluation, or photographs out of scikit-image; labels as the network counts.

    Raises:
      InputError: see `data.images.load`, and a label that the network does not have.
    """
    size = network.input_shape[0]
    if not config.data.images:
        found = photographs(size, tiles=4 if size <= 64 else 1)
        return found.take(range(min(config.data.count or len(found), len(found))))
    found = read_images(config.data.images, size, config.data.count, crop=network.crop, labels=config.data.labels)
    return replace(found, labels=trusted_labels(config, network, found))


def learned_from(config: ConfigDict, network: Network) -> tuple[tuple, tuple[int, int, int]]:
    """(`Inputs.shares`, `Inputs.shape`) that the section "inputs" asks for."""
    shares = config.inputs.to_dict()
    side = shares.pop("side") or network.input_shape[0]
    return mixture(shares, config.synthesis.batches), (side, side, network.input_shape[2])


def trusted_labels(config: ConfigDict, network: Network, private: Images) -> np.ndarray | None:
    """The private images' labels as the network counts them, int [N]; None where that is not known.

    Folders are classes in alphabetical order, which is the network's order only if all are there.

    Raises:
      InputError: a label that the network does not have.
    """
    labels, count = private.labels, classes(network)
    folders = not (
        config.data.labels or str(config.data.images).startswith("tfds:") or str(config.data.images).endswith(".npz")
    )
    if labels is not None and count is not None and folders and labels.max() + 1 != count:
        log.warning(
            "%d class folders for the %d classes of %s: which is which is not known, so there is no top-1; "
            "give data.labels",
            labels.max() + 1,
            count,
            network.name,
        )
        labels = None
    if labels is None or count is None:
        return None
    if labels.max() >= count:
        raise InputError(
            f"An image has the label {labels.max()}, but {network.name} has {count} classes, counted "
            "from 0; correct the labels, or give the network that they belong to."
        )
    return labels


def floors(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What needs no features at all, uint8 [N, H, W, C]: the mean of the other private images, and one of them at random.

    Of a single image, which has no others, both are grey.
    """
    count = len(pixels)
    if count == 1:
        grey = np.full_like(pixels, 128)
        return {"mean_image": grey, "random_image": grey}
    total = pixels.sum(0, dtype=np.int64)
    mean = np.stack([((total - image) / (count - 1)).round().astype(np.uint8) for image in pixels])
    step = np.random.default_rng(seed).integers(1, count)
    return {"mean_image": mean, "random_image": np.roll(pixels, step, 0)}


def read(
    network: Network,
    private: Images,
    batch: int,
    split: str,
    defense: tuple[str, float],
    reconstruct: Reconstruct,
    key: Array,
    file: Path,
) -> dict[str, np.ndarray]:
    """Read every image back from its features at one split; kept in files, so that it is done once.

    Args:
      network: the target.
      private: the images; their labels are true classes, or None.
      batch: images at a time, shared by the devices.
      split: split point.
      defense: (key of `DEFENSES`, strength), applied to the features.
      reconstruct: features [B, ...] -> images [B, H, W, C] in [0, 1]. It never sees the images.
      key: for the defense.
      file: .npz, see `kept.each`.

    Returns:
      `results.METRICS` but those of codes, each float32 [N], and "reconstruction" uint8 [N, H, W, C].
      "label_kept" tells whether the defended features still give the network's answer; "top1" and
      "top1_original" whether reconstruction and original get their true label. NaN where the
      network has no head or the labels are not known.
    """
    index, (name, strength) = split_index(network, split), defense

    def one(truth, labels, start):
        features = features_at(network, index, truth)
        sent = defend(name, strength, jax.random.fold_in(key, start), features)
        return measure(network, index, truth, reconstruct(sent), sent, labels)

    return each(file, batch, one, private.pixels, _labels(private))


def guess(network: Network, private: Images, batch: int, guesses: np.ndarray, file: Path) -> dict[str, np.ndarray]:
    """Like `read`, for guesses uint8 [N, H, W, C] that were made without any features."""

    def one(truth, labels, guess, _):
        return measure(network, 0, truth, guess, truth, labels)

    return each(file, batch, one, private.pixels, _labels(private), guesses)


@functools.partial(jax.jit, static_argnums=(0, 1))
def defend(name: str, strength: float, key: Array, features: Array) -> Array:
    """What the device sends: its features behind a key of `DEFENSES`."""
    return DEFENSES[name](key, features, strength)


@functools.partial(jax.jit, static_argnums=1)
def measure(network: Network, index: int, truth: Array, found: Array, sent: Array, labels: Array) -> dict[str, Array]:
    """`results.METRICS`, but those of codes, [B] of reconstructions [B, H, W, C].

    Args:
      network: the target.
      index: the split at which the features were sent.
      truth, found: images [B, H, W, C] in [0, 1] and their reconstructions.
      sent: the features.
      labels: int [B], true classes, -1 where not known.
    """

    def answer(features, start):
        return logits(network, run(network, features, start))

    unknown = jnp.full(len(truth), jnp.nan)
    agreement = kept = top1 = top1_original = unknown
    if network.head:
        original, again = answer(truth, 0), answer(found, 0)
        agreement = metrics.label_agreement(again, original)
        kept = metrics.label_agreement(answer(sent, index), original)
        top1 = jnp.where(labels < 0, unknown, again.argmax(1) == labels)
        top1_original = jnp.where(labels < 0, unknown, original.argmax(1) == labels)
    return {
        "mse": metrics.mse(found, truth),
        "psnr": metrics.psnr(found, truth),
        "ssim": metrics.ssim(found, truth),
        "label_agreement": agreement,
        "label_kept": kept,
        "top1": top1,
        "top1_original": top1_original,
        "reconstruction": jnp.round(found * 255).astype(jnp.uint8),
    }


def recognised(networks: tuple[Network, ...], images, batch: int) -> dict[str, float]:
    """Network -> share of the synthesised images that it answers with the label they were made for."""
    if not len(images):
        return {}
    return {n.name: synthesis.recognised(n, images, batch) for n in networks if n.head}


def _begin(private, evaluation):
    keep_originals(evaluation / "originals.npz", private.pixels, private.names, private.skipped)
    for reason in private.skipped:
        log.warning("skipped damaged image %s", reason)


def _learn(config, trained, verifier, shares, shape, key, workdir):
    folder = present(workdir, "synthesis")
    made = synthesis.synthesize(trained, key, folder, **config.synthesis)
    judges = (trained, verifier) if verifier else (trained,)
    keep(folder / "recognised.json", lambda: recognised(judges, made, config.batch))
    return Inputs(made, shares, shape)


def _labels(private):
    unknown = np.full(len(private), -1)
    return unknown if private.labels is None else np.asarray(private.labels)


def _check_shape(network):
    shape = network.input_shape
    if len(shape) != 3:
        raise InputError(
            f"{network.name} takes inputs of shape {shape}, which are no images [H, W, C]; give "
            "Network.latent if it is a generator, or choose another target."
        )
    if shape[0] != shape[1] or shape[2] != 3:
        raise InputError(
            f"{network.name} takes images [H, W, C] of {list(shape)}, but pictures are read as squares in three colours; "
            "begin your network with a block that crops them, or makes them grey."
        )
    if not all(0 < value < math.inf for value in network.std) or not all(map(math.isfinite, network.mean)):
        raise InputError(
            f"{network.name} has mean {network.mean} and std {network.std}; give finite numbers, std above 0."
        )
