"""Scores for every private image: how close its reconstruction is, and what a defense costs."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dci_jax import metrics
from dci_jax.data.images import Images
from dci_jax.defenses import channel as channels
from dci_jax.defenses.channel import Channel
from dci_jax.evaluation import recognition
from dci_jax.evaluation.kept import each
from dci_jax.models.lpips import lpips
from dci_jax.network import Network, first_blocks, logits, run, split_index
from dci_jax.runtime import sharding
from dci_jax.typing import Array, Reconstruct


def read(
    network: Network,
    private: Images,
    batch: int,
    judge: dict[str, Array] | None,
    split: str,
    channel: Channel,
    reconstruct: Reconstruct,
    *,
    predicted: Callable[[], np.ndarray],
    key: Array,
    file: Path,
) -> dict[str, np.ndarray]:
    """Reconstruct every image from its features at one split and score it; results are stored in files and reused.

    Args:
      network: the target.
      private: the images; their labels are true classes, or None.
      batch: images per batch, split across devices.
      judge: weights of LPIPS, or None.
      split: split point.
      channel: the applied defense.
      reconstruct: features [B, ...] -> images [B, H, W, C] in [0, 1]. It never sees the images.
      predicted: () -> `predictions`; called only if there is something to score.
      key: for the defense.
      file: .npz, see `kept.each`.

    Returns:
      `measure` and `compared`, each float32 [N], and "reconstruction" uint8 [N, H, W, C].
    """
    index = split_index(network, split)

    def one(truth, labels, original, start):
        sent = channels.sent(network, index, channel, jax.random.fold_in(key, start), truth)
        return measure(network, judge, truth, reconstruct(sent), labels, original)

    scores = each(file, batch, one, private.pixels, labels_of(private), predicted)
    return scores | compared(scores, private.pixels, batch)


def predictions(network: Network, private: Images, batch: int) -> Int[np.ndarray, "N"]:
    """The classes that the network predicts for the private images, int [N]; -1 if it is no classifier."""
    if network.head is None:
        return np.full(len(private), -1)
    found = []
    for start in range(0, len(private), batch):
        x = private.pixels[start : start + batch] / np.float32(255)
        put = sharding.put(sharding.padded(x), sharding.batch_sharded())
        found.append(sharding.fetch(_predicted(network, put))[: len(x)])
    return np.concatenate(found)


@jax.jit
def _predicted(network, x):
    return logits(network, run(network, x)).argmax(1)


def measure_sent(
    network: Network,
    private: Images,
    batch: int,
    split: str,
    channel: Channel,
    key: Array,
    file: Path,
    *,
    predicted: Callable[[], np.ndarray],
) -> dict[str, np.ndarray]:
    """Cost of a defense at one split, for every image: "bytes_coded" of a payload, and `answers` to one query."""
    index, once = split_index(network, split), replace(channel, num_queries=1)

    def one(truth, labels, original, start):
        features = received = first_blocks(network, index, truth)
        answered = original
        if channel.kind != "none":
            received = channels.send(once, jax.random.fold_in(key, start), features)
            answered = _answered(network, index, received) if network.head else original
        sizes = channels.message_bytes(once, *sharding.fetch((features, received)))
        return {"bytes_coded": sizes, **answers(answered, original, labels)}

    return each(file, batch, one, private.pixels, labels_of(private), predicted)


@functools.partial(jax.jit, static_argnums=1)
def _answered(network, index, received):
    return logits(network, run(network, received, index)).argmax(1)


def guess(
    network: Network,
    private: Images,
    batch: int,
    judge: dict[str, Array] | None,
    guesses: np.ndarray,
    file: Path,
    *,
    predicted: Callable[[], np.ndarray],
) -> dict[str, np.ndarray]:
    """Like `read`, for guesses uint8 [N, H, W, C] made without any features."""

    def one(truth, labels, original, guess, _):
        return measure(network, judge, truth, guess, labels, original)

    scores = each(file, batch, one, private.pixels, labels_of(private), predicted, guesses)
    return scores | compared(scores, private.pixels, batch)


@jax.jit
def measure(
    network: Network,
    judge: dict[str, Array] | None,
    truth: Float[Array, "B H W C"],
    found: Float[Array, "B H W C"],
    labels: Int[Array, "B"],
    original: Int[Array, "B"],
) -> dict[str, Array]:
    """`results.METRICS`, except those of latents, [B] of reconstructions [B, H, W, C].

    Args:
      network: the target.
      judge: weights of LPIPS, or None.
      truth, found: images [B, H, W, C] in [0, 1] and their reconstructions.
      labels: int [B], true classes, -1 where not known.
      original: int [B], the classes that the network predicts for `truth`.
    """

    unknown = jnp.full(len(truth), jnp.nan)
    agreement = top1 = top1_original = unknown
    if network.head:
        again = logits(network, run(network, found)).argmax(1)
        agreement = (again == original).astype(jnp.float32)
        top1 = jnp.where(labels < 0, unknown, again == labels)
        top1_original = jnp.where(labels < 0, unknown, original == labels)
    return {
        "mse": metrics.mse(found, truth),
        "psnr": metrics.psnr(found, truth),
        "ssim": metrics.ssim(found, truth),
        "ms_ssim": metrics.ms_ssim(found, truth),
        "lpips": lpips(judge, found, truth) if judge else unknown,
        "label_agreement": agreement,
        "top1": top1,
        "top1_original": top1_original,
        "reconstruction": jnp.round(found * 255).astype(jnp.uint8),
    }


def answers(
    answered: Int[Array, "B"], original: Int[Array, "B"], labels: Int[Array, "B"]
) -> dict[str, Float[Array, "B"]]:
    """[B] each: "server_agreement", the server predicts as without the defense; "top1_sent", it is right; NaN if unknown.

    Args:
      answered, original: the classes that the server predicts with the defense and without, int [B]; -1 if it is no classifier.
      labels: true classes, int [B]; -1 where not known.
    """
    same = jnp.where(original < 0, jnp.nan, answered == original)
    return {
        "server_agreement": same,
        "top1_sent": jnp.where((labels < 0) | (original < 0), jnp.nan, answered == labels),
    }


def compared(scores: dict[str, np.ndarray], private: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """`reidentified` and `recognition.scores`, [N], of the reconstructions in `scores` of the images uint8 [N, H, W, C]."""
    return reidentified(scores["reconstruction"], private) | recognition.scores(scores, private, batch)


def reidentified(found: np.ndarray, candidates: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each reconstruction's own image is the nearest of all candidates, or among the nearest five. [N], 0 or 1.

    Args:
      found: reconstructions uint8 [N, H, W, C], in the order of
      candidates: the private images uint8 [N, H, W, C]. Chance is 1 / N, or 5 / N.
    """
    a, b = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (found, candidates))
    distances = (b**2).sum(1) - 2 * a @ b.T  # and |a|^2, the same for all candidates
    place = (distances < np.diag(distances)[:, None]).sum(1)
    return {"rank1": np.float32(place < 1), "rank5": np.float32(place < 5)}


def labels_of(private: Images) -> np.ndarray:
    """The true classes, int [N]; -1 where they are not known."""
    unknown = np.full(len(private), -1)
    return unknown if private.labels is None else np.asarray(private.labels)
