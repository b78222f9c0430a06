"""Scores for every private image: how close its reconstruction is, and what a defense costs."""

import functools
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
from dci_jax.network import Network, logits, run, split_index
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
      key: for the defense.
      file: .npz, see `kept.each`.

    Returns:
      `measure` and `compared`, each float32 [N], and "reconstruction" uint8 [N, H, W, C].
    """
    index = split_index(network, split)

    def one(truth, labels, start):
        sent = channels.sent(network, index, channel, jax.random.fold_in(key, start), truth)
        return measure(network, judge, truth, reconstruct(sent), labels)

    scores = each(file, batch, one, private.pixels, labels_of(private))
    return scores | compared(scores, private.pixels, batch)


def measure_sent(
    network: Network, private: Images, batch: int, split: str, channel: Channel, key: Array, file: Path
) -> dict[str, np.ndarray]:
    """Cost of a defense at one split, for every image: "bytes_coded" of a payload, and `answers` to one query."""
    index, once = split_index(network, split), replace(channel, num_queries=1)

    def one(truth, labels, start):
        key_sent = jax.random.fold_in(key, start)
        features, received = (channels.sent(network, index, c, key_sent, truth) for c in (channels.NONE, once))
        sizes = channels.message_bytes(once, *sharding.fetch((features, received)))
        return {"bytes_coded": sizes, **answers(network, index, features, received, labels)}

    return each(file, batch, one, private.pixels, labels_of(private))


def guess(
    network: Network,
    private: Images,
    batch: int,
    judge: dict[str, Array] | None,
    guesses: np.ndarray,
    file: Path,
) -> dict[str, np.ndarray]:
    """Like `read`, for guesses uint8 [N, H, W, C] made without any features."""

    def one(truth, labels, guess, _):
        return measure(network, judge, truth, guess, labels)

    scores = each(file, batch, one, private.pixels, labels_of(private), guesses)
    return scores | compared(scores, private.pixels, batch)


@jax.jit
def measure(
    network: Network,
    judge: dict[str, Array] | None,
    truth: Float[Array, "B H W C"],
    found: Float[Array, "B H W C"],
    labels: Int[Array, "B"],
) -> dict[str, Array]:
    """`results.METRICS`, except those of latents, [B] of reconstructions [B, H, W, C].

    Args:
      network: the target.
      judge: weights of LPIPS, or None.
      truth, found: images [B, H, W, C] in [0, 1] and their reconstructions.
      labels: int [B], true classes, -1 where not known.
    """

    unknown = jnp.full(len(truth), jnp.nan)
    agreement = top1 = top1_original = unknown
    if network.head:
        original, again = (logits(network, run(network, x)) for x in (truth, found))
        agreement = metrics.label_agreement(again, original)
        top1 = jnp.where(labels < 0, unknown, again.argmax(1) == labels)
        top1_original = jnp.where(labels < 0, unknown, original.argmax(1) == labels)
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


@functools.partial(jax.jit, static_argnums=1)
def answers(
    network: Network,
    index: int,
    features: Float[Array, "B *f"],
    received: Float[Array, "B *f"],
    labels: Int[Array, "B"],
) -> dict[str, Array]:
    """[B] each: "server_agreement", the server predicts as without the defense; "top1_sent", it is right; NaN if unknown.

    Args:
      network: the target.
      index: split of the features and of the received ones, [B, ...].
      labels: int [B], true classes, -1 where not known.
    """
    unknown = jnp.full(len(labels), jnp.nan)
    if not network.head:
        return {"server_agreement": unknown, "top1_sent": unknown}
    before, after = (logits(network, run(network, f, index)) for f in (features, received))
    right = jnp.where(labels < 0, unknown, after.argmax(1) == labels)
    return {"server_agreement": metrics.label_agreement(after, before), "top1_sent": right}


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
