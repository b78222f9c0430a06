"""Private images: which ones, the defenses of their features, and scores of their reconstructions."""

import functools
import logging
import math
import zlib
from dataclasses import replace

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax import models
from dci_jax.attacks.registry import find
from dci_jax.data.images import Images, photographs, without
from dci_jax.data.images import load as read_images
from dci_jax.defenses import channel as channels
from dci_jax.defenses import registry
from dci_jax.defenses.channel import Channel
from dci_jax.errors import InputError
from dci_jax.evaluation import recognition
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.image_scores import guess, measure_sent, predictions, read
from dci_jax.evaluation.kept import latency
from dci_jax.inputs import prior, synthesis
from dci_jax.inputs.mixture import POOL, Prior, mixture
from dci_jax.minimum_settings import shortfalls
from dci_jax.models import lpips
from dci_jax.network import Network, classes, split_index
from dci_jax.report import audit
from dci_jax.report import images as page
from dci_jax.runtime import sharding
from dci_jax.runtime.workdir import keep, keep_originals, present

log = logging.getLogger("dci_jax")


def load(config: ConfigDict, network: Network, splits: tuple[str, ...], private: Images | None = None) -> Case:
    """The `Case` of a config whose target takes images.

    Args:
      config: as in configs/default.py.
      network: the target.
      splits: split points to reconstruct from.
      private: the images that are evaluated; None: those that the config names.

    Raises:
      InputError: an invalid value; the message gives it and the fix.
    """
    _check_shape(network)
    put = functools.partial(sharding.put, sharding=sharding.replicated())
    trained = put(network)
    device = put(models.deploy(config.target.name, network)) if config.target.deploy else trained
    verifier = None
    if config.verifier.name:
        verifier = put(models.load(config.verifier.name, config.verifier.weights))
        if verifier.latent or verifier.head is None or verifier.input_shape != network.input_shape:
            raise InputError(
                f"verifier.name is {config.verifier.name!r}, which does not classify {network.name}'s images; give a classifier of inputs "
                f"{list(network.input_shape)}, or leave it empty."
            )
    weights, shape = learned_from(config, network)
    _check(config, network, min(shape[:2]))
    judge = put(lpips.load(config.lpips.backbone, config.lpips.linear)) if config.lpips.backbone else None
    private = private or private_images(config, network)
    taught = _real(config.defense.images, "defense", network, private)
    oracle = _real(config.oracle.images, "oracle", network, private)
    predicted = functools.cache(functools.partial(predictions, device, private, config.batch))
    return Case(
        network=device,
        trained=trained,
        splits=splits,
        private=private,
        judge=judge,
        weights=weights,
        shape=shape,
        names=private.names,
        baselines=baselines(private.pixels, config.seed),
        channels=dict.fromkeys(splits, asked(config)),
        learn_channels=functools.partial(_learn_channels, config, device, splits, taught),
        sent=functools.partial(measure_sent, device, private, config.batch, predicted=predicted),
        begin=functools.partial(_begin, private),
        learn=functools.partial(_learn, config, trained, verifier, weights, shape),
        guess=functools.partial(guess, device, private, config.batch, judge, predicted=predicted),
        read=functools.partial(read, device, private, config.batch, judge, predicted=predicted),
        finish=functools.partial(_finish, device, private) if config.audit.page else lambda fitted, evaluation: None,
        report=audit.write if config.audit.page else page.write,
        oracle=oracle,
        depends={
            "target.weights": network,
            "data.labels": private.labels,
            "oracle.images": oracle,
            "defense.images": taught,
            "lpips": judge,
            "verifier.weights": verifier,
        },
    )


def _check(config, network, side):
    """Raise InputError for impossible settings; warn of an audit that could not judge."""
    synthesis.check(network, config.synthesis.batches, config.synthesis.stages)
    prior.check(config.prior_fitting.steps, config.prior_fitting.padding, side)
    if side > min(network.input_shape[:2]):
        raise InputError(
            f"inputs.side is {config.inputs.side}, but {network.name} takes images of {' x '.join(map(str, network.input_shape[:2]))} "
            "pixels; give a smaller side, or 0 for the network's own."
        )
    if bool(config.lpips.backbone) != bool(config.lpips.linear):
        raise InputError("LPIPS needs both lpips.backbone and lpips.linear; give both or neither.")
    if not config.audit.page:
        return
    if not any(find(name).adapted for name in config.attacks):
        log.warning(
            "no attack in this audit adapts to the defenses, so it does not judge what does not leak; add adapted_dci"
        )
    for sentence in dict.fromkeys(s for name in config.attacks for s in shortfalls(config, find(name).section)):
        log.warning(
            "%s: below that, the audit draws no conclusion from what this attack does not reconstruct", sentence
        )


def private_images(config: ConfigDict, network: Network) -> Images:
    """The config's images for evaluation, or photographs from scikit-image; labels in the network's numbering.

    Raises:
      InputError: see `data.images.load`, and a label that the network does not have.
    """
    shape = network.input_shape
    if not config.data.images:
        found = photographs(shape, tiles=4 if max(shape[:2]) <= 64 else 1)
        return found.take(range(min(config.data.count or len(found), len(found))))
    found = read_images(config.data.images, shape, config.data.count, crop=network.crop, labels=config.data.labels)
    return replace(found, labels=trusted_labels(config, network, found))


def _real(path, who, network, private):
    """Real images uint8 [M, H, W, C] that the oracle or a defense learns from, none of them private; None without a path."""
    if not path:
        return None
    found = read_images(path, network.input_shape, crop=network.crop, flag=f"{who}.images")
    pixels = without(found, private).pixels
    if len(pixels) == 0:
        raise InputError(f"All images of {path} are also evaluated; give the {who} other images.")
    return pixels


def learned_from(config: ConfigDict, network: Network) -> tuple[tuple, tuple[int, int, int]]:
    """(`Prior.weights`, `Prior.shape`) that the section "inputs" asks for."""
    weights = config.inputs.to_dict()
    side = weights.pop("side")
    shape = (side, side, network.input_shape[2]) if side else network.input_shape
    return mixture(weights, config.synthesis.batches), shape


def trusted_labels(config: ConfigDict, network: Network, private: Images) -> np.ndarray | None:
    """The private images' labels in the network's numbering, int [N]; None if it is unknown.

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
            "%d class folders for the %d classes of %s: their correspondence is unknown, so top-1 is not measured; "
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


def baselines(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The baselines, uint8 [N, H, W, C]: two blind guesses, and a thumbnail of the image's 4 x 4 colours.

    "mean_image": the mean of the other private images; "random_image": one of them; both exclude near
    duplicates. "thumbnail": `recognition.thumbnail`. Without other images, the guesses are grey.
    """
    same, rng = recognition.alike(pixels), np.random.default_rng(seed)
    mean, other = np.full_like(pixels, 128), np.full_like(pixels, 128)
    total, step = pixels.sum(0, dtype=np.int64), rng.integers(1, max(len(pixels), 2))
    for i in range(len(pixels)):
        (left,) = np.nonzero(same[i])
        if len(left) < len(pixels):
            rest = total - pixels[left].sum(0, dtype=np.int64)
            mean[i] = (rest / (len(pixels) - len(left))).round()
            order = np.roll(np.arange(len(pixels)), step - i)
            other[i] = pixels[next(j for j in order if not same[i, j])]
    return {"mean_image": mean, "random_image": other, "thumbnail": recognition.thumbnail(pixels)}


def verifier_accuracy(networks: tuple[Network, ...], images, batch: int) -> dict[str, float]:
    """Network -> share of the synthesised images whose intended label it predicts."""
    if not len(images):
        return {}
    return {n.name: synthesis.verifier_accuracy(n, images, batch) for n in networks if n.head}


def _begin(private, evaluation):
    keep_originals(evaluation / "originals.npz", private.pixels, private.names, private.skipped)
    for reason in private.skipped:
        log.warning("not read: %s", reason)


def _learn(config, trained, verifier, weights, shape, key, workdir):
    file = present(workdir, "prior") / "filter.npz"
    key_filter = jax.random.fold_in(key, zlib.crc32(b"calibration"))  # synthesis folds small numbers in
    inputs = prior.fit_filter(trained, Prior((), weights, shape), key_filter, file, **config.prior_fitting)
    # A filter applies only to what it was fitted to.
    found = inputs.filter if config.synthesis.start in dict(weights) else None
    folder = present(workdir, "synthesis")
    made = synthesis.synthesize(trained, key, folder, filter=found, **config.synthesis)
    judges = (trained, verifier) if verifier else (trained,)
    keep(folder / "verifier_accuracy.json", lambda: verifier_accuracy(judges, made, config.batch))
    return replace(inputs, pool=made)


def asked(config: ConfigDict) -> tuple[Channel, ...]:
    """The config's channels: every defense, random ones once for each of `num_queries`."""
    found = []
    for kind, strength in config.defenses:
        often = config.num_queries if registry.find(kind).random else (1,)
        found += [Channel(kind, float(strength), number) for number in often]
    return tuple(found)


def _learn_channels(config, network, splits, taught, inputs, key, workdir):
    """{split: channels}, with defenses learned from the attack's inputs or from real images."""
    if taught is not None:
        inputs = Prior(taught, ((POOL, 1.0),), inputs.shape)
    found = {}
    for split in splits:
        made, index = {}, split_index(network, split)
        for channel in asked(config):
            once = replace(channel, num_queries=1)
            if once.label not in made:
                folder = present(workdir, "defenses", split) / once.label
                seed = jax.random.fold_in(key, index)
                made[once.label] = channels.learn(once, network, index, inputs, seed, folder, config.defense.steps)
            found.setdefault(split, []).append(replace(made[once.label], num_queries=channel.num_queries))
    return {split: tuple(some) for split, some in found.items()}


def _finish(network, private, fitted, evaluation):
    """Latency of device and attack for one image on this machine, for the audit's page."""
    keep(
        evaluation / "latency.json",
        lambda: latency(network, private.pixels[:1] / np.float32(255), fitted.get("dci", {})),
    )


def _check_shape(network):
    shape = network.input_shape
    if len(shape) != 3:
        raise InputError(
            f"{network.name} takes inputs of shape {shape}, which are not images [H, W, C]; give "
            "Network.latent if it is a generator, or choose another target."
        )
    if shape[2] not in (1, 3):
        raise InputError(
            f"{network.name} takes images [H, W, C] of {list(shape)}, but pictures have 3 channels, or 1 if they are grey; begin "
            "your network with a block that converts these to its channels."
        )
    if not all(0 < value < math.inf for value in network.std) or not all(map(math.isfinite, network.mean)):
        raise InputError(
            f"{network.name} has mean {network.mean} and std {network.std}; give finite numbers, std above 0."
        )
