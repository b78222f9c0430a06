"""What is reconstructed and how it is scored, as one type: images (`evaluation.images`) or a generator's latents (`evaluation.latents`)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dci_jax.defenses.channel import Channel
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network
from dci_jax.typing import Array, Reconstruct


@dataclass(frozen=True)
class Case:
    """Everything that a run (`experiment`) needs; it does not depend on the kind of case.

    Attributes:
      network: the target as it runs on the device. An attack receives this and `Prior`, nothing else.
      splits: split points to reconstruct from.
      weights, shape: those of the `Prior` that an attack learns from.
      names: one for each private input.
      baselines: name -> guesses [N, ...] made without any features.
      channels: split -> the applied defenses, before any has learned.
      depends: field of the config -> arrays that a run depends on, for `fingerprint`.
      oracle: real images uint8 [M, H, W, C] that an oracle learns from; none of them is private. None: no oracle.
      begin: (evaluation) -> None; keeps the private inputs in that folder for the report.
      learn: (key, workdir) -> the `Prior`; makes everything it depends on.
      learn_channels: (inputs, key, workdir) -> `channels`, with learned defenses.
      sent: (split, channel, key, file) -> metric -> [N] of `results.METRICS`: the cost of a defense, whatever the attack.
      guess: (guesses, file) -> scores, as for `read`.
      read: (split, channel, reconstruct, key, file) -> metric -> [N] of `results.METRICS`, and more that the
        report shows; reconstruct never sees a private input.
      finish: ({attack: {split: reconstruct}}, evaluation) -> None; makes what else the report shows.
      report: (workdir) -> path of the page.
      private: the private images, if the case is of images; used only for scoring.
      judge: weights of LPIPS, if given.
      trained: the target with its BatchNorm layers, from which images are synthesised; None if not possible.
    """

    network: Network
    splits: tuple[str, ...]
    weights: tuple[tuple[str, float], ...]
    shape: tuple[int, ...]
    names: tuple[str, ...]
    baselines: dict[str, np.ndarray]
    channels: dict[str, tuple[Channel, ...]]
    begin: Callable[[Path], None]
    learn: Callable[[Array, Path], Prior]
    guess: Callable[[np.ndarray, Path], dict[str, np.ndarray]]
    learn_channels: Callable[[Prior, Array, Path], dict[str, tuple[Channel, ...]]]
    sent: Callable[[str, Channel, Array, Path], dict[str, np.ndarray]]
    read: Callable[..., dict[str, np.ndarray]]  # (split, channel, reconstruct, *, key, file)
    finish: Callable[[dict[str, dict[str, Reconstruct]], Path], None]
    report: Callable[[Path], Path]
    oracle: np.ndarray | None = None
    private: Any = None
    judge: dict[str, Array] | None = None
    trained: Network | None = None
    depends: dict[str, Any] = field(default_factory=dict)
