"""The positive control of an audit: each attack on the network's first split point, undefended, on procedural images.

An attack that reconstructs nothing there is broken, or too weak for this network, and its low scores elsewhere are no sign
of safety. Features that are not finite, the same for every image, or without a gradient are also detected here.
"""

import functools
import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from dci_jax.attacks import registry
from dci_jax.evaluation import recognition
from dci_jax.evaluation.case import Case
from dci_jax.inputs.mixture import POOL, Prior, batches
from dci_jax.metrics import psnr, ssim
from dci_jax.network import Network, first_blocks, run, split_index, split_names
from dci_jax.report import attackers
from dci_jax.report.leaks import Policy, evidence
from dci_jax.runtime import sharding
from dci_jax.runtime.workdir import keep, present
from dci_jax.typing import Array, Reconstruct

log = logging.getLogger("dci_jax")

IMAGES = 16


def control(
    config: ConfigDict, case: Case, inputs: Prior, policy: Policy, shown: set[str], key: Array, workdir: Path
) -> None:
    """Write evaluation/control.json: {"attacks": {name: share reconstructed}, "splits": {split: [faults]}}.

    Args:
      config: as in configs/default.py.
      case: what is audited.
      inputs: what the attacks learn from; its procedural images are reconstructed.
      policy: when an image counts as reconstructed.
      shown: attacks that need no control, because they reconstructed enough of the private images somewhere.
      key: PRNG key.
      workdir: of the run.
    """
    key_images, key_attack = jax.random.split(key)
    weights = tuple(s for s in inputs.weights if s[0] != POOL) or (("dead_leaves", 1.0),)
    apart = replace(inputs, pool=(), weights=weights, shape=case.network.input_shape)
    truth = batches(apart, key_images, IMAGES)(0)
    first = split_names(case.network)[0]

    def made():
        names = dict.fromkeys(attackers.base(name) for name in config.attacks)
        fitted = functools.cache(functools.partial(_fitted, config, case, inputs, first, key_attack, workdir))
        return {
            "attacks": {n: share(case.network, first, truth, fitted(n), policy) for n in names if n not in shown},
            "splits": {split: faults(case.network, split, truth) for split in case.splits},
        }

    found = keep(present(workdir, "evaluation") / attackers.CONTROL, made)
    for name, value in found["attacks"].items():
        log.info("control: %s reconstructs %.0f %% of procedural images after %s", name, 100 * value, first)
    for split, sentences in found["splits"].items():
        for sentence in sentences:
            log.warning("%s: %s", split, sentence)


def share(
    network: Network, split: str, truth: Float[Array, "B ..."], reconstruct: Reconstruct, policy: Policy
) -> float:
    """The share of images [B, H, W, C] in [0, 1] that are reconstructed from their features at `split`; see `verdict`."""
    found = jnp.clip(reconstruct(first_blocks(network, split_index(network, split), truth)), 0, 1)
    found, truth = sharding.fetch((found, truth))
    pixels, base = _pixels(truth), recognition.thumbnail(_pixels(truth))
    rows = [_scores(_pixels(guess), guess, truth, pixels) for guess in (found, np.float32(base) / 255)]
    best = {(0, str(i)): {m: row[m] for m in row} for i, row in enumerate(rows[1])}
    named = [row | {"seed": 0, "image": str(i)} for i, row in enumerate(rows[0])]
    return float(np.mean(evidence(named, best, policy) >= 0))


def faults(network: Network, split: str, images: Float[Array, "B ..."]) -> list[str]:
    """Why scores at `split` are meaningless: sentences on features that are not finite, do not vary, have no gradient."""
    index = split_index(network, split)
    features = sharding.fetch(first_blocks(network, index, images))
    if not np.isfinite(features).all():
        return ["its features are not finite; check the checkpoint"]
    if np.abs(features - features[:1]).max() <= 1e-6 * np.abs(features).max():
        return ["its features are the same for every image; check the checkpoint and the inputs' range"]
    if not np.any(sharding.fetch(_slope(network, index, images))):
        return ["its features have no gradient with respect to the image, so gradient-based attacks cannot work"]
    return []


@functools.partial(jax.jit, static_argnums=1)
def _slope(network, index, images):
    weights = jax.random.normal(jax.random.key(0), jax.eval_shape(lambda x: run(network, x, 0, index), images).shape)
    return jax.grad(lambda x: jnp.sum(weights * run(network, x, 0, index)))(images)


def _fitted(config, case, inputs, split, key, workdir, name) -> Callable:
    """The attack's function from features to images at the split."""
    attack = registry.find(name, config.oracle.attack)
    _, settings = registry.settings(config, attack, (split,))
    if attack.starts_from:
        settings["start"] = {split: _fitted(config, case, inputs, split, key, workdir, attack.starts_from)}
    if "@" in name:
        inputs = Prior((), ((name.partition("@")[2], 1.0),), inputs.shape)
    folder = present(workdir, "evaluation", "control") / name
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return attack.fit(case.network, inputs, (split,), own, folder, **settings)[split]


def _pixels(images):
    return np.uint8(np.round(images * np.float32(255)))


def _scores(pixels, guess, truth, originals):
    """The scores of each image, as in the rows of results.jsonl."""
    plain = {"reconstruction": pixels, "psnr": np.asarray(psnr(guess, truth)), "ssim": np.asarray(ssim(guess, truth))}
    found = recognition.scores(plain, originals, IMAGES)
    return [{name: float(values[i]) for name, values in found.items()} for i in range(len(pixels))]
