"""A generator's private latents: drawn from its prior, reconstructed from its features and images, repaired.

A generator's input is a latent and its features end in an image; reconstructing an input is GAN inversion. The
attacks learn from latents of the prior, so no real image is needed.
"""

import functools
import logging
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax.data.images import load as read_images
from dci_jax.data.images import photographs
from dci_jax.dci.chain import Chain
from dci_jax.defenses.channel import NONE, Channel
from dci_jax.errors import InputError
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.directions import spectrum
from dci_jax.evaluation.kept import each
from dci_jax.evaluation.latent_scores import compared, corrupt, depths, measure, unlikeliness
from dci_jax.inputs.latents import DEVIATIONS, LATENTS
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, feature_shapes, first_blocks, running_statistics, split_index
from dci_jax.report import latents as page
from dci_jax.runtime import distributed, sharding
from dci_jax.runtime.files import read_arrays, replacing
from dci_jax.runtime.workdir import keep_originals
from dci_jax.typing import Array, Reconstruct

log = logging.getLogger("dci_jax")

REPAIRED = 100  # latents whose images are corrupted, to be repaired
SPECTRA = 64  # latents whose Jacobian is analysed


def load(config: ConfigDict, network: Network, splits: tuple[str, ...]) -> Case:
    """The `Case` of a config whose target is a generator.

    Args:
      config: as in configs/default.py; the latents of the images in section "data" need not be known.
      network: the target.
      splits: split points to reconstruct from.

    Raises:
      InputError: an invalid value; the message gives it and the fix.
    """
    _check(config, network)
    network = sharding.put(network, sharding.replicated())
    shapes, last = feature_shapes(network), network.blocks[-1].name
    shape = shapes[-1]
    given = read_images(config.data.images, shape) if config.data.images else photographs(shape, tiles=1)
    key, _, _ = jax.random.split(jax.random.key(config.seed), 3)
    latents = np.array(LATENTS[network.latent](key, config.data.count, network.input_shape))
    weights, guesses = ((network.latent, 1.0),), baselines(latents, config.seed)
    # "none" once, or n would double
    corruptions = (NONE, *(Channel(kind, strength) for kind, strength in config.corruptions if kind != "none"))
    channels = {name: corruptions if name == last else (NONE,) for name in splits}
    return Case(
        network=network,
        splits=splits,
        weights=weights,
        shape=network.input_shape,
        names=tuple(f"latent {i}" for i in range(len(latents))),
        baselines=guesses,
        channels=channels,
        learn_channels=lambda inputs, key, workdir: channels,
        sent=lambda split, channel, key, file: {},
        begin=functools.partial(_begin, network, latents, config.batch, guesses["mean_latent"]),
        learn=lambda key, workdir: Prior((), weights, network.input_shape),
        guess=functools.partial(guess, network, latents, config.batch),
        read=functools.partial(read, network, latents, config.batch),
        finish=functools.partial(_finish, network, latents, given.pixels, config.batch),
        report=page.write,
        depends={"target.weights": network, "data.images": given.pixels},
    )


def baselines(latents: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Guesses without any features, float32 [N, C]: the mean of the prior, and another private latent at random."""
    step = np.random.default_rng(seed).integers(1, max(len(latents), 2))
    return {"mean_latent": np.zeros_like(latents), "random_latent": np.roll(latents, step, 0)}


def read(
    network: Network,
    latents: np.ndarray,
    batch: int,
    split: str,
    corruption: Channel,
    reconstruct: Reconstruct,
    *,
    key: Array,
    file: Path,
) -> dict[str, np.ndarray]:
    """Reconstruct every latent from its features at one split and score it; results are stored in files and reused.

    Args:
      network: a generator.
      latents: the private ones, float32 [N, C]; with a corruption, only the first `REPAIRED` of them.
      batch: latents per batch, split across devices.
      split: split point; at the last, the features are the image itself.
      corruption: its kind is a key of `CORRUPTIONS`, applied to the features; other than "none" at the last split only.
      reconstruct: features [B, ...] -> latents [B, C]. It never sees the latents.
      key: for the corruption.
      file: .npz, see `kept.each`.

    Returns:
      Each [N]: "latent_cosine" and "latent_error" (relative l2) of the latents; "mse", "psnr" and
      "ssim" of the image regenerated from the latent, against the uncorrupted one; "psnr_sent" of the
      attack's input, if that is an image. And "latent" float32 [N, C], "reconstruction"
      and "sent" uint8 [N, H, W, 3].
    """
    index = split_index(network, split)

    def one(truth, start):
        features = first_blocks(network, index, truth)
        sent = corrupt(corruption.kind, corruption.strength, jax.random.fold_in(key, start), features)
        return measure(network, index, truth, reconstruct(sent), sent)

    return each(file, batch, one, latents if corruption.kind == "none" else latents[:REPAIRED])


def guess(network: Network, latents: np.ndarray, batch: int, guesses: np.ndarray, file: Path) -> dict[str, np.ndarray]:
    """Like `read` at the last split, for guesses [N, C] made without any features."""

    def one(truth, guess, _):
        index = len(network.blocks)
        return measure(network, index, truth, guess, first_blocks(network, index, truth))

    return each(file, batch, one, latents, guesses)


def read_given(
    network: Network, images: np.ndarray, batch: int, reconstruct: Reconstruct, file: Path
) -> dict[str, np.ndarray]:
    """The same for given images uint8 [N, H, W, 3], which need not have a latent: no latent errors."""

    def one(truth, _):
        latent = reconstruct(truth)
        return compared(first_blocks(network, len(network.blocks), latent), truth) | {"latent": latent}

    return each(file, batch, one, images)


def by_depth(network: Network, latents: np.ndarray, chain: Chain) -> dict[str, np.ndarray]:
    """`depths` of latents, reconstructed from their images by the chain."""
    latents = sharding.put(latents, sharding.replicated())
    images = first_blocks(network, len(network.blocks), latents)
    return depths(network, latents, chain.estimates(images))


def spectra(network: Network, latents: np.ndarray) -> dict[str, np.ndarray]:
    """Singular values and vectors of the image's Jacobian at these latents, and the latents themselves."""
    values, vectors = spectrum(network, sharding.put(latents, sharding.replicated()), len(network.blocks))
    deviation = np.float32(DEVIATIONS[network.latent])
    return {"values": values, "vectors": vectors, "latents": latents, "deviation": deviation}


def unlikely(network: Network, latents: np.ndarray, evaluation: Path, last: str) -> dict[str, np.ndarray]:
    """`unlikeliness` of the private latents ("before"), and of each attack's reconstructions from their images."""

    def score(latents):
        return unlikeliness(network, sharding.put(latents, sharding.replicated()))

    files = {file.parent.name: file for file in evaluation.glob(f"*/{last} none.npz")}
    return {"before": score(latents)} | {name: score(read_arrays(file)["latent"]) for name, file in files.items()}


def _begin(network, latents, batch, mean, evaluation):
    sent = guess(network, latents, batch, mean, evaluation / "mean_latent.npz")["sent"]
    keep_originals(evaluation / "originals.npz", sent, tuple(f"latent {i}" for i in range(len(latents))), ())


def _finish(network, latents, given, batch, fitted, evaluation):
    """Images that the generator did not make, errors by block, and which directions of a latent an image shows."""
    last = network.blocks[-1].name
    for name in fitted:
        if last in fitted[name]:
            read_given(network, given, batch, fitted[name][last], evaluation / name / "given images.npz")
    chain = next((r[last] for r in fitted.values() if isinstance(r.get(last), Chain)), None)
    if chain:
        _keep(evaluation / "blocks.npz", lambda: by_depth(network, latents[:batch], chain))
    _keep(evaluation / "directions.npz", lambda: spectra(network, latents[:SPECTRA]))
    if jax.tree.leaves(running_statistics(network)):
        _keep(evaluation / "unlikeliness.npz", lambda: unlikely(network, latents, evaluation, last))
    if distributed.is_leader():
        np.savez(evaluation / "given.npz", pixels=given)


def _keep(file, make):
    """Store what `make` returns as an .npz, once."""
    if not distributed.broadcast(file.exists()):
        content = sharding.fetch(make())
        if distributed.is_leader():
            with replacing(file, "wb") as stream:
                np.savez(stream, **content)
        distributed.barrier(file.name)


def _check(config, network):
    if config.oracle.images:
        raise InputError(
            f"oracle.images is {config.oracle.images}, but {network.name} takes latents, whose true prior every "
            "attack has; leave it empty."
        )
    if any(kind != "none" for kind, _ in config.defenses):
        raise InputError(
            f"defenses is {config.defenses}, but the outputs of {network.name} are images; name corruptions "
            "of them in corruptions."
        )
    if config.data.count < 2:
        raise InputError(f"data.count is {config.data.count}; give the number of latents for evaluation, at least 2.")
    for field, value in (
        ("target.deploy", config.target.deploy),
        ("verifier.name", config.verifier.name),
        ("refine.prior", config.refine.prior),
        ("rmle.prior", config.rmle.prior),
        ("audit.page", config.audit.page),
        ("defense.images", config.defense.images),
        ("lpips.backbone", config.lpips.backbone),
    ):
        if value:
            raise InputError(
                f"{field} is {value!r}, but {network.name} is a generator, for which it has no meaning; leave it out."
            )
    log.info(
        "%s takes latents: attacks learn from its prior, and the sections inputs and synthesis are ignored",
        network.name,
    )
