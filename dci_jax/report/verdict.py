"""What an audit concludes from its numbers: the worst attacker of each cell, its level, the choice, the front. No HTML.

A cell is a split point with a defense. What leaks from it is what the attacker who reads most reads, for each
measure the worst of all attackers.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats

from dci_jax.results import ANY_SPLIT

MEASURES = ("psnr", "ssim", "ms_ssim", "lpips", "rank1", "rank5", "label_agreement", "top1")
LEVELS = ("below the policy", "in doubt", "readable")


@dataclass(frozen=True)
class Policy:
    """When a cell counts as readable; the levels are the project's own, no published threshold exists.

    Attributes:
      ssim, psnr: of the images that are read best, the 95th percentile over images.
      rank1: share of images that are re-identified.
      label_kept: a cell that keeps fewer of the server's answers is no choice.
    """

    ssim: float
    psnr: float
    rank1: float
    label_kept: float


@dataclass(frozen=True)
class Cell:
    """One split point with one defense.

    Attributes:
      split, defense: its names.
      attacks: attack, " x10" behind it where it has ten sends of every input -> measure -> (mean, low, high, worst 5 %);
        those not known are left out.
      between: attack -> standard deviation of its mean PSNR over seeds; {} of one seed.
      worst: the attack with the highest mean SSIM.
      kept: share of the server's answers kept, (mean, low, high); None without a head.
      accuracy: share of the server's answers that are true behind the defense, (mean, low, high); None without labels.
      bytes_coded: mean size of a message.
      costs: `results.COSTS` of the split.
      level: of `LEVELS`.
    """

    split: str
    defense: str
    attacks: dict[str, dict[str, tuple[float, float, float, float]]]
    between: dict[str, float]
    worst: str
    kept: tuple[float, float, float] | None
    accuracy: tuple[float, float, float] | None
    bytes_coded: float
    costs: dict[str, float]
    level: str

    def leak(self, measure: str) -> float | None:
        """The mean of a measure under the attacker for whom it is highest; None where it is not known."""
        nearest = min if measure == "lpips" else max
        return nearest((found[measure][0] for found in self.attacks.values() if measure in found), default=None)


def cells(workdirs: Sequence[Path], policy: Policy, costs: dict[str, dict[str, float]]) -> list[Cell]:
    """All cells of finished runs, in the order of their results.jsonl.

    Args:
      workdirs: of runs that differ in their seed alone; an image counts as one, whatever the number of seeds.
      policy: for the levels.
      costs: split -> `results.COSTS`.
    """
    rows = {}
    for workdir in workdirs:
        for line in (workdir / "results.jsonl").open():
            row = json.loads(line)
            if row["split"] != ANY_SPLIT:
                defense, sends = once(row["defense"])
                rows.setdefault((row["split"], defense), {}).setdefault(row["attack"] + sends, []).append(row)
    return [_cell(split, defense, by_attack, policy, costs) for (split, defense), by_attack in rows.items()]


def once(label: str) -> tuple[str, str]:
    """("gaussian 1", " x10") of "gaussian 1 x10": an attacker who has ten sends attacks the same defense."""
    defense, sends = re.fullmatch(r"(.*?)( x\d+)?", label).groups()
    return defense, sends or ""


def _cell(split, defense, by_attack, policy, costs):
    attacks, between = {}, {}
    for attack, members in by_attack.items():
        seeds = dict.fromkeys(m["seed"] for m in members)
        if len(seeds) > 1:
            between[attack] = float(
                np.std([np.mean([m["psnr"] for m in members if m["seed"] == s]) for s in seeds], ddof=1)
            )
        names = [m["image"] for m in members]
        columns = {measure: [m[measure] for m in members] for measure in MEASURES}
        attacks[attack] = {
            measure: (*interval(values, names), float(np.quantile(values, 0.05 if measure == "lpips" else 0.95)))
            for measure, values in columns.items()
            if None not in values
        }
    any_rows = next(iter(by_attack.values()))
    kept, accuracy = (_known([m[name] for m in any_rows], any_rows) for name in ("label_kept", "top1_sent"))
    worst = max(attacks, key=lambda attack: attacks[attack]["ssim"][0])
    sizes = [m["bytes_coded"] for m in any_rows if m["bytes_coded"] is not None]
    size = float(np.mean(sizes)) if sizes else costs[split]["bytes_sent"]
    return Cell(
        split, defense, attacks, between, worst, kept, accuracy, size, costs[split], level(attacks.values(), policy)
    )


def _known(values, rows):
    return None if None in values else interval(values, [row["image"] for row in rows])


def level(found: Iterable[dict[str, tuple[float, float, float, float]]], policy: Policy) -> str:
    """One of `LEVELS`: readable where any attacker passes any threshold; in doubt where re-identification might."""
    doubt = False
    for measures in found:
        if (
            measures["ssim"][3] >= policy.ssim
            or measures["psnr"][3] >= policy.psnr
            or measures["rank1"][0] >= policy.rank1
        ):
            return LEVELS[2]
        doubt |= measures["rank1"][2] >= policy.rank1
    return LEVELS[1] if doubt else LEVELS[0]


def interval(values: Sequence[float], names: Sequence[str]) -> tuple[float, float, float]:
    """(mean, low, high): the 95 % bootstrap interval (percentile, 2000 resamples of whole photographs).

    Args:
      values: one for each image.
      names: of the images; tiles of one photograph, "chelsea r0c1", are drawn together.
    """
    values = np.asarray(values, float)
    whole = np.array([re.sub(r" r\d+c\d+$", "", name) for name in names])
    groups = np.array([values[whole == name].mean() for name in dict.fromkeys(whole)])
    if len(groups) < 2 or np.ptp(groups) == 0:
        return float(values.mean()), float(values.mean()), float(values.mean())
    found = scipy.stats.bootstrap(
        (groups,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(values.mean()), float(found.low), float(found.high)


def choice(found: Sequence[Cell], policy: Policy) -> Cell | None:
    """The cell to ship: below the policy, its answers kept, the fewest operations on the device, then the fewest bytes."""
    fine = [c for c in found if c.level == LEVELS[0] and (c.kept is None or c.kept[0] >= policy.label_kept)]
    return min(fine, key=lambda c: (c.costs["device_flops"], c.bytes_coded), default=None)


def least(found: Sequence[Cell], policy: Policy) -> Cell:
    """The cell that leaks least, by SSIM, of those that keep enough answers; of all where none does."""
    kept = [c for c in found if c.kept is None or c.kept[0] >= policy.label_kept] or found
    return min(kept, key=lambda c: c.leak("ssim"))


def front(found: Sequence[Cell], cost) -> list[Cell]:
    """Those that no other cell beats in both SSIM and `cost(cell)`, where less is better in both."""

    def beaten(c):
        return any(
            o.leak("ssim") <= c.leak("ssim")
            and cost(o) <= cost(c)
            and (o.leak("ssim"), cost(o)) != (c.leak("ssim"), cost(c))
            for o in found
        )

    return sorted((c for c in found if not beaten(c)), key=cost)


def adapting(found: Sequence[Cell]) -> list[tuple[Cell, float, float, str]]:
    """(cell, PSNR of DCI that does not adapt, PSNR of the adapted attacker who reads most, his name), the largest gain first."""
    pairs = []
    for cell in found:
        adapted = {a: m["psnr"][0] for a, m in cell.attacks.items() if a.startswith("adapted_") and not once(a)[1]}
        if adapted and "dci" in cell.attacks:
            best = max(adapted, key=adapted.get)
            pairs.append((cell, cell.attacks["dci"]["psnr"][0], adapted[best], best))
    return sorted(pairs, key=lambda pair: pair[1] - pair[2])


def weaker(found: Sequence[Cell]) -> list[Cell]:
    """Cells where DCI solved on defended features reads less than DCI that does not adapt, beyond both intervals: a fault."""
    odd = []
    for cell in found:
        plain, adapted = (cell.attacks.get(a, {}).get("psnr") for a in ("dci", "adapted_dci"))
        if plain and adapted and adapted[2] < plain[1]:
            odd.append(cell)
    return odd
