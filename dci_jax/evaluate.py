"""attack x defense x split -> one line per image, one summary row per cell, and the reconstructions."""

import csv
import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from dci_jax import hosts, metrics, parallel
from dci_jax.blocks import Network, feature_shapes, logits, run, split_index
from dci_jax.defenses import DEFENSES
from dci_jax.files import replacing

Array = jax.Array

ANY_SPLIT = "any"  # what the floors, which see no features, have for a split
COSTS = ("bytes_sent", "device_flops", "depth")
METRICS = ("mse", "psnr", "ssim", "label_agreement", "label_kept", "top1", "top1_original",
           "latent_cosine", "latent_error", "psnr_sent")  # fmt: skip
SHARES = ("label_agreement", "label_kept", "top1", "top1_original")  # 0 or 1 for each image


def evaluate(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray | None,
    reconstruct: Callable[[Array], Array],
    split: str,
    defense: tuple[str, float],
    key: Array,
    file: Path,
    batch: int,
) -> dict[str, np.ndarray]:
    """Read every image back from its features at one split; kept in files, so that it is done once.

    Each batch is kept as soon as it is done: a killed run loses one batch of one cell at most.

    Args:
      network: the target.
      images: the private ones, uint8 [N, H, W, C].
      labels: their true classes, int [N], or None.
      reconstruct: features [B, ...] -> images [B, H, W, C] in [0, 1]. It never sees the images.
      split: split point.
      defense: (key of `DEFENSES`, strength), applied to the features.
      key: for the defense.
      file: .npz, written when all images are done; until then a folder beside it keeps the batches.
      batch: images at a time, shared by the devices.

    Returns:
      `METRICS` but those of codes, each float32 [N], and "reconstruction" uint8 [N, H, W, C].
      "label_kept" tells whether the defended features still give the network's answer; "top1" and
      "top1_original" whether reconstruction and original get their true label. NaN where the
      network has no head or the labels are not known.
    """
    index, (name, strength) = split_index(network, split), defense

    def one(truth, labels, start):
        features = features_at(network, index, truth)
        sent = defend(name, strength, jax.random.fold_in(key, start), features)
        return measure(network, index, truth, reconstruct(sent), sent, labels)

    return each(file, batch, one, images, _known(labels, images))


def floor(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray | None,
    guesses: np.ndarray,
    file: Path,
    batch: int,
) -> dict[str, np.ndarray]:
    """Like `evaluate`, for guesses uint8 [N, H, W, C] that were made without any features."""

    def one(truth, labels, guess, _):
        return measure(network, 0, truth, guess, truth, labels)

    return each(file, batch, one, images, _known(labels, images), guesses)


@functools.partial(jax.jit, static_argnums=1)
def features_at(network: Network, index: int, images: Array) -> Array:
    """What the device computes: the features at split `index`."""
    return run(network, images, 0, index)


@functools.partial(jax.jit, static_argnums=(0, 1))
def defend(name: str, strength: float, key: Array, features: Array) -> Array:
    """What the device sends: its features behind a key of `DEFENSES`."""
    return DEFENSES[name](key, features, strength)


@functools.partial(jax.jit, static_argnums=1)
def measure(
    network: Network, index: int, truth: Array, found: Array, sent: Array, labels: Array
) -> dict[str, Array]:
    """`METRICS`, but those of codes, [B] of reconstructions [B, H, W, C].

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


def _known(labels, images):
    return np.full(len(images), -1) if labels is None else np.asarray(labels)


def each(
    file: Path, batch: int, one: Callable[..., dict[str, Array]], *arrays: np.ndarray
) -> dict[str, np.ndarray]:
    """`one` batch after the other, put together and kept in files; what is finished is read from them.

    Args:
      file: .npz, see `evaluate`.
      batch: rows at a time, shared by the devices.
      one: (a batch of each array, number of its first row) -> arrays [B, ...].
      arrays: each [N, ...]; pixels, uint8, are given on as [0, 1].
    """
    folder = file.with_suffix(".parts")
    if not hosts.agree(file.exists()):
        for start in range(0, len(arrays[0]), batch):
            part = folder / f"{start:06d}.npz"
            if hosts.agree(part.exists()):
                continue
            hosts.stop_if_asked()
            rows = slice(start, start + batch)
            pixels = [a.dtype == np.uint8 for a in arrays]
            seen = [a[rows] / np.float32(255) if p else a[rows] for a, p in zip(arrays, pixels, strict=True)]  # fmt: skip
            seen = [parallel.put(parallel.padded(a), parallel.split()) for a in seen]
            result = parallel.fetch(one(*seen, start))
            if hosts.leads():
                with replacing(part, "wb") as stream:
                    np.savez(stream, **{k: v[: len(arrays[0][rows])] for k, v in result.items()})
        if hosts.leads():
            parts = [dict(np.load(part)) for part in sorted(folder.glob("*.npz"))]
            with replacing(file, "wb") as stream:
                np.savez(stream, **{k: np.concatenate([p[k] for p in parts]) for k in parts[0]})
    hosts.meet(file.name)
    if hosts.leads():
        shutil.rmtree(folder, ignore_errors=True)
    return dict(np.load(file))


def lines(
    result: dict[str, np.ndarray], names: Iterable[str], **cell: str | int
) -> list[dict[str, str | float | None]]:
    """The rows of results.jsonl for one cell: target, split, attack, defense and seed are given."""
    rows = []
    for i, name in enumerate(names):
        values = {m: float(result[m][i]) if m in result else np.nan for m in METRICS}
        values = {m: None if np.isnan(v) else round(v, 6) for m, v in values.items()}
        rows.append(cell | {"image": name} | values | {"lpips": None})
    return rows


def write(rows: list[dict], costs: dict[str, dict[str, int]], workdir: Path) -> None:
    """results.jsonl, and summary.csv with n, mean, 95 % interval (`half_interval`) and worst 5 % per cell.

    What is not known (no head, no labels) is null in the one and empty in the other.

    "Worst" is the defender's worst: the 95th percentile of PSNR and SSIM over the images.

    Args:
      rows: from `lines`.
      costs: as from `costs`.
      workdir: where both files go.
    """
    with replacing(workdir / "results.jsonl") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    cells = {}
    for row in rows:
        cell = tuple(row[field] for field in ("target", "split", "attack", "defense"))
        cells.setdefault(cell, []).append(row)
    table = []
    for (target, split, attack, defense), members in cells.items():
        line = dict(target=target, split=split, attack=attack, defense=defense, n=len(members))
        for metric in METRICS[1:]:
            values = np.array([row[metric] for row in members], float)  # None becomes NaN
            line[metric] = round(float(values.mean()), 4)
            names = [row["image"] for row in members]
            line[f"{metric}_ci95"] = round(half_interval(values, names, metric in SHARES), 4)
            if metric in ("psnr", "ssim"):
                line[f"{metric}_worst5"] = round(float(np.quantile(values, 0.95)), 4)
        line = {name: "" if value != value else value for name, value in line.items()}  # NaN
        table.append(line | costs.get(split, dict.fromkeys(COSTS, "")))
    with replacing(workdir / "summary.csv") as stream:
        writer = csv.DictWriter(stream, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def half_interval(values: np.ndarray, names: Sequence[str], share: bool) -> float:
    """Half the width of the 95 % interval of the mean, by Student's t; NaN for one image alone.

    Args:
      values: one for each image.
      names: of the images. Tiles of one photograph, "chelsea r0c1", are not independent and count as one.
      share: the values are 0 or 1: then at least half of Wilson's interval (1927), which is not 0 where all agree.
    """
    whole = np.array([re.sub(r" r\d+c\d+$", "", name) for name in names])
    means = np.array([values[whole == name].mean() for name in dict.fromkeys(whole)])
    count = len(means)
    if count < 2:
        return np.nan
    half = scipy.stats.t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count)
    if share:
        z, p = scipy.stats.norm.ppf(0.975), values.mean()
        wilson = z * np.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
        half = np.maximum(half, wilson)  # NaN stays
    return float(half)


def costs(network: Network, splits: Iterable[str]) -> dict[str, dict[str, int]]:
    """What a split is, for one image: `COSTS`.

    Bytes sent (float32), floating-point operations on the device, and how deep it lies: the share of the
    network's blocks that run before it.
    """
    shapes, image = feature_shapes(network), jnp.zeros((1, *network.input_shape))
    result = {}
    for name in splits:
        index = split_index(network, name)
        flops = features_at.lower(network, index, image).cost_analysis()["flops"]
        result[name] = {
            "bytes_sent": 4 * int(np.prod(shapes[index])),
            "device_flops": int(flops),
            "depth": round(index / len(network.blocks), 4),
        }
    return result
