"""Which images leak: a reconstruction passes a threshold of the policy and is better than every baseline of its image.

Baselines are guesses that see no features, and 4 x 4 of the image's own colors. The comparison is paired, image by
image, so no baseline can leak.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from dci_jax.report import attackers
from dci_jax.results import ANY_SPLIT

POLICY = ("ssim", "psnr", "structure", "leaking", "server_agreement")  # fields of config.audit
# By how much a reconstruction has to beat the baselines of its image, and how near a threshold is in doubt.
MARGINS = {"psnr_affine": 2.0, "ssim_affine": 0.1, "structure": 0.1, "structure_part": 0.1}
PART = 0.95  # structure of a quarter of the image: so much is a copy of it
CHANCE = 1e-3  # below this probability by chance, images that are re-identified by structure leak


@dataclass(frozen=True)
class Policy:
    """When an image leaks, and how many may; the thresholds are the project's own, no published one exists.

    Attributes:
      ssim, psnr: of a reconstruction, after a fit of brightness and contrast.
      structure: `evaluation.recognition`'s.
      leaking: share of the images that may leak.
      server_agreement: a cell that keeps fewer of the server's predictions is no choice.
    """

    ssim: float
    psnr: float
    structure: float
    leaking: float
    server_agreement: float

    @property
    def thresholds(self) -> dict[str, float]:
        """Measure -> from where on an image leaks."""
        return {
            "psnr_affine": self.psnr,
            "ssim_affine": self.ssim,
            "structure": self.structure,
            "structure_part": PART,
        }


def working(rows: Iterable[dict], policy: Policy) -> set[str]:
    """The attacks that reconstruct enough of the private images in some cell, by `rows` of results.jsonl."""
    cells, base = {}, baselines(row for row in rows if row["split"] == ANY_SPLIT)
    for row in rows:
        if row["split"] != ANY_SPLIT:
            cells.setdefault((row["split"], row["attack"], row["defense"]), []).append(row)
    enough = (at for at, some in cells.items() if np.mean(evidence(some, base, policy) >= 0) >= attackers.ENOUGH)
    return {attackers.base(attack) for _, attack, _ in enough}


def baselines(rows: Iterable[dict]) -> dict[tuple[int, str], dict[str, float]]:
    """(seed, image) -> measure of `MARGINS` -> the best that a baseline has; `rows` are those of baselines."""
    best = {}
    for row in rows:
        known = best.setdefault((row["seed"], row["image"]), dict.fromkeys(MARGINS, -np.inf))
        for measure in MARGINS:
            known[measure] = max(known[measure], number(row[measure], -np.inf))
    return best


def evidence(rows: Sequence[dict], base: dict[tuple[int, str], dict[str, float]], policy: Policy) -> np.ndarray:
    """How clearly each image leaks by one attack: 0 and more, it does; from -1 on it is in doubt. [len(rows)].

    In units of `MARGINS`: how far the score lies above the threshold and above baseline + margin, the smaller of both,
    of the measure by which it leaks most clearly. Where more images are re-identified by structure than `CHANCE`
    allows, these leak, too.
    """
    candidates = len({row["image"] for row in rows})
    nearest = np.array([candidates == 1 or number(row["rank1_structure"], 0) > 0 for row in rows])
    found, above = np.full(len(rows), -np.inf), {}
    for measure, threshold in policy.thresholds.items():
        margin = MARGINS[measure]
        scores = np.array([number(row[measure], -1e9) for row in rows])
        if measure.startswith("structure"):  # what looks more like another image does not show its own
            scores = np.where(nearest, scores, -1e9)
        above[measure] = scores - [base.get((row["seed"], row["image"]), {}).get(measure, -np.inf) for row in rows]
        found = np.fmax(found, np.minimum(scores - threshold, above[measure] - margin) / margin)
    named = nearest & (above["structure"] > MARGINS["structure"] / 2)
    if candidates > 1 and scipy.special.bdtrc(named.sum() - 1, len(rows), 1 / candidates) < CHANCE:
        found = np.where(named, np.maximum(found, 0.0), found)
    return found


def number(value: float | None, missing: float) -> float:
    """The value; `missing` where it is not known."""
    return missing if value is None else value
