"""What an audit concludes from its numbers: the share of images that leak in each cell, and what is not judged.

A cell is a split point with a defense. Without HTML, from files alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dci_jax.report.attackers import Attackers
from dci_jax.report.labels import once
from dci_jax.report.leaks import Policy, baselines, evidence, number
from dci_jax.results import ANY_SPLIT, interval, photograph, wilson

MEASURES = (
    "psnr",
    "ssim",
    "psnr_affine",
    "ssim_affine",
    "structure",
    "structure_part",
    "ms_ssim",
    "lpips",
    "rank1",
    "rank5",
    "rank1_structure",
    "label_agreement",
    "top1",
)
_SHARES = ("rank1", "rank5", "rank1_structure", "label_agreement", "top1")
LEVELS = ("none", "in doubt", "some", "most", "not judged")


@dataclass(frozen=True)
class Cell:
    """One split point with one defense.

    Attributes:
      split, defense: its names.
      attacks: attack, " x10" behind it if it has ten queries of every input -> measure -> (mean, low, high, worst
        5 %); those not known are left out.
      leaking: attack -> share of the images that leak by it.
      share: share of the images that leak by any attacker, (share, low, high) with the 95 % interval over photographs.
      doubtful: how many images do not leak, but nearly.
      reasons: why the cell is not judged if no image leaks; () if the attackers are strong enough.
      between: attack -> standard deviation of its mean PSNR over seeds; {} of one seed.
      worst: the attack by which most images leak, of those the one with the highest mean of `ssim_affine`.
      kept: share of the server's predictions kept, (mean, low, high); None without a head.
      accuracy: share of the server's predictions that are true with the defense, (mean, low, high); None if not known.
      bytes_coded: mean size of a payload.
      costs: `results.COSTS` of the split.
      level: of `LEVELS`.
      meets_policy: the attackers are strong enough, and no more images leak or are in doubt than the policy allows.
    """

    split: str
    defense: str
    attacks: dict[str, dict[str, tuple[float, float, float, float]]]
    leaking: dict[str, float]
    share: tuple[float, float, float]
    doubtful: int
    reasons: tuple[str, ...]
    between: dict[str, float]
    worst: str
    kept: tuple[float, float, float] | None
    accuracy: tuple[float, float, float] | None
    bytes_coded: float
    costs: dict[str, float]
    level: str
    meets_policy: bool

    def leak(self, measure: str) -> float | None:
        """The mean of a measure under the attacker for whom it is highest; None where it is not known."""
        nearest = min if measure == "lpips" else max
        return nearest((found[measure][0] for found in self.attacks.values() if measure in found), default=None)

    @property
    def label_told(self) -> float | None:
        """Share of images whose label, as the network gives it, an attacker tells: from what is received, by the rest of the network, or
        from the best reconstruction. Pictures are not all that features hold. None without a head."""
        read = self.leak("label_agreement")
        return None if self.kept is None else max(self.kept[0], read or 0.0)


def cells(workdirs: Sequence[Path], policy: Policy, costs: dict[str, dict[str, float]], known: Attackers) -> list[Cell]:
    """All cells of finished runs, in the order of their results.jsonl.

    Args:
      workdirs: of runs that differ in their seed alone; an image counts as one, whatever the number of seeds.
      policy: what leaks.
      costs: split -> `results.COSTS`.
      known: which attackers are strong enough, from `attackers.read`.
    """
    rows, guesses = {}, []
    for workdir in workdirs:
        for line in (workdir / "results.jsonl").open():
            row = json.loads(line)
            if row["split"] == ANY_SPLIT:
                guesses.append(row)
            else:
                queries = f" x{row['num_queries']}" if row["num_queries"] > 1 else ""
                at = row["split"], row["defense"].removesuffix(queries)
                rows.setdefault(at, {}).setdefault(row["attack"] + queries, []).append(row)
    base = baselines(guesses)
    leaks = {at: {attack: evidence(some, base, policy) for attack, some in found.items()} for at, found in rows.items()}
    able = known.able({at: {a: float(np.mean(e >= 0)) for a, e in found.items()} for at, found in leaks.items()})
    return [_cell(*at, by_attack, leaks[at], policy, costs, able) for at, by_attack in rows.items()]


def _cell(split, defense, by_attack, leaks, policy, costs, able):
    attacks, between = {}, {}
    for attack, members in by_attack.items():
        seeds = dict.fromkeys(m["seed"] for m in members)
        if len(seeds) > 1:
            between[attack] = float(
                np.std([np.mean([m["psnr"] for m in members if m["seed"] == s]) for s in seeds], ddof=1)
            )
        attacks[attack] = _measured(members)
    any_rows = next(iter(by_attack.values()))
    kept, accuracy = (_known(any_rows, name) for name in ("server_agreement", "top1_sent"))
    strongest = {}
    for attack, found in leaks.items():
        for row, value in zip(by_attack[attack], found, strict=True):
            at = row["seed"], row["image"]
            strongest[at] = max(strongest.get(at, -np.inf), value)
    names, values = [image for _, image in strongest], np.array(list(strongest.values()))
    low, high = wilson(np.mean(values >= 0), len({photograph(name) for name in names}))
    share = float(np.mean(values >= 0)), low, high
    doubtful = int(np.sum((values >= -1) & (values < 0)))
    reasons = able.reasons(split, defense, by_attack)
    reasons += tuple(
        f"{attack} gave non-finite numbers" for attack, some in attacks.items() if "ssim_affine" not in some
    )
    leaking = {attack: float(np.mean(found >= 0)) for attack, found in leaks.items()}
    worst = max(attacks, key=lambda a: (leaking[a], attacks[a].get("ssim_affine", (-1,))[0]))
    sizes = [m["bytes_coded"] for m in any_rows if m["bytes_coded"] is not None]
    size = float(np.mean(sizes)) if sizes else costs[split]["bytes_sent"]
    found = level(share[0], doubtful, reasons)
    return Cell(
        split,
        defense,
        attacks,
        leaking,
        share,
        doubtful,
        reasons,
        between,
        worst,
        kept,
        accuracy,
        size,
        costs[split],
        found,
        not reasons and share[0] + doubtful / len(values) <= policy.leaking,
    )


def level(share: float, doubtful: int, reasons: Sequence[str]) -> str:
    """One of `LEVELS`, from the share of images that leak, how many are in doubt, and why attackers could not tell."""
    if share > 0:
        return LEVELS[3] if share >= 0.5 else LEVELS[2]
    return LEVELS[4] if reasons else LEVELS[1] if doubtful else LEVELS[0]


def _measured(members):
    """Measure -> (mean, low, high, worst 5 %) of the rows of one attack; those that a row lacks are left out."""
    found = {}
    for measure in MEASURES:
        values = [m.get(measure) for m in members]
        if None not in values:
            worst = float(np.quantile(values, 0.05 if measure == "lpips" else 0.95))
            found[measure] = (*_mean(values, members, measure in _SHARES), worst)
    return found


def _known(rows, name):
    values = [row[name] for row in rows]
    return None if None in values else _mean(values, rows, True)


def _mean(values, rows, share):
    """(mean, low, high), an image counting once, however many seeds there are."""
    images = {}
    for value, row in zip(values, rows, strict=True):
        images.setdefault(row["image"], []).append(value)
    each = np.array([np.mean(v) for v in images.values()])
    low, high = interval(each, list(images), share)
    mean = float(each.mean())
    return (mean, mean, mean) if np.isnan(low) else (mean, low, high)


def choice(found: Sequence[Cell], policy: Policy) -> Cell | None:
    """The cell to ship: it meets the policy, keeps its predictions, the fewest operations on the device, then bytes."""
    fine = [c for c in found if c.meets_policy and (c.kept is None or c.kept[0] >= policy.server_agreement)]
    return min(fine, key=lambda c: (c.costs["device_flops"], c.bytes_coded), default=None)


def least(found: Sequence[Cell], policy: Policy) -> Cell:
    """The cell by which fewest images leak, of those that keep enough predictions; of all where none does."""
    kept = [c for c in found if c.kept is None or c.kept[0] >= policy.server_agreement] or found
    return min(kept, key=lambda c: (c.share[0], number(c.leak("ssim_affine"), 0)))


def front(found: Sequence[Cell], cost) -> list[Cell]:
    """Those that no other cell beats in both SSIM after a fit and `cost(cell)`, where less is better in both."""

    def beaten(c):
        ours = c.leak("ssim_affine"), cost(c)
        theirs = ((o.leak("ssim_affine"), cost(o)) for o in found)
        return any(a <= ours[0] and b <= ours[1] and (a, b) != ours for a, b in theirs)

    return sorted((c for c in found if not beaten(c)), key=cost)


def adapting(found: Sequence[Cell]) -> list[tuple[Cell, float, float, str]]:
    """(cell, PSNR of DCI that does not adapt, PSNR of the best adapted attacker, its name), the largest gain first."""
    pairs = []
    for cell in found:
        adapted = {
            a: m["psnr"][0]
            for a, m in cell.attacks.items()
            if a.startswith("adapted_") and not once(a)[1] and "psnr" in m
        }
        if adapted and "psnr" in cell.attacks.get("dci", {}):
            best = max(adapted, key=adapted.get)
            pairs.append((cell, cell.attacks["dci"]["psnr"][0], adapted[best], best))
    return sorted(pairs, key=lambda pair: pair[1] - pair[2])


def weaker(found: Sequence[Cell]) -> list[Cell]:
    """Cells where adapted DCI reconstructs less than DCI that does not adapt, beyond both intervals: a fault."""
    odd = []
    for cell in found:
        plain, adapted = (cell.attacks.get(a, {}).get("psnr") for a in ("dci", "adapted_dci"))
        if plain and adapted and adapted[2] < plain[1]:
            odd.append(cell)
    return odd
