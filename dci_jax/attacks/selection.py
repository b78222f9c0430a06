"""How an attacker chooses the weight of total variation: by what reconstructs procedural images best."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Float

from dci_jax.attacks.feature_matching import share
from dci_jax.errors import InputError
from dci_jax.metrics import psnr
from dci_jax.runtime import distributed
from dci_jax.runtime.files import read_json, replacing
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")


def choose(
    file: Path,
    label: str,
    truth: Float[Array, "B H W C"],
    before: Float[Array, "B H W C"] | None,
    weights: Sequence[float],
    read: Callable[[float], Float[Array, "B H W C"]],
) -> tuple[float, float]:
    """(weight of total variation, share of the way from the start) with the best PSNR on procedural images.

    Args:
      file: keeps the choice, so that a run that goes on makes it once.
      label: for the log.
      truth: the procedural images.
      before: the start's reconstructions of them; None: the share is 1.
      weights: the candidates.
      read: reconstructs the images with a weight.

    Raises:
      InputError: none gives finite images.
    """
    if not distributed.broadcast(file.exists()):
        found = []
        for weight in weights:
            images = read(weight)
            if not jnp.isfinite(images).all():
                log.warning("%s: the weight %g of total variation diverges", label, weight)
                continue
            part = 1.0 if before is None else share(before, images, truth)
            images = images if before is None else before + part * (images - before)
            found.append((float(psnr(images, truth).mean()), weight, part))
        if not found:
            raise InputError(
                f"{label}: every weight of total variation diverges; lower the learning rate or the damping."
            )
        log.info("%s: (dB on procedural images, weight of TV, share of the way): %s", label, found)
        best = max(found, key=lambda row: row[0])
        if distributed.is_leader():
            with replacing(file) as stream:
                kept = {"total_variation": best[1], "share": best[2], "psnr": [[w, p] for p, w, _ in found]}
                json.dump(kept, stream)
        distributed.barrier(f"{file.parent.name} {file.name}")
    kept = read_json(file)
    return kept["total_variation"], kept.get("share", 1.0)
