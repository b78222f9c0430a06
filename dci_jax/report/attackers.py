"""Which attackers of an audit are strong enough to judge: their settings suffice, and each has reconstructed something.

A low score of an attack that is too weak, or broken on this network, is no sign of safety. From files alone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dci_jax.attacks.naming import ADAPTED, ORACLE, section, starts_from
from dci_jax.minimum_settings import shortfalls

RESTORED = "restored.json"  # of an adapted chain; made by `dci_jax.dci.solve_chain`
CONTROL = "control.json"  # beside the reconstructions; made by `dci_jax.evaluation.positive_control`
ENOUGH = 0.5  # share of images that an attacker has to reconstruct somewhere
NEEDED = "dci"  # the strongest single pass, which the others start from


@dataclass(frozen=True)
class Attackers:
    """What is known about the attackers of a run.

    Attributes:
      weak: base name of an attack -> sentences on its settings and its control.
      shown: base name -> share of procedural images that it reconstructed in the control.
      faults: split -> what is wrong with its features.
      restored: (split, defense) -> share of moved features that the attacker who knows the defense puts back.
    """

    weak: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    restored: dict[tuple[str, str], float] = field(default_factory=dict)

    def able(self, leaking: Mapping[tuple[str, str], Mapping[str, float]]) -> "Attackers":
        """The same; an attacker that reconstructs enough images neither in a cell nor in the control is weak, too.

        Args:
          leaking: (split, defense) -> attack -> share of images that leak.
        """
        best = dict(self.shown)
        for found in leaking.values():
            for attack, share in found.items():
                best[base(attack)] = max(best.get(base(attack), 0.0), share)
        weak = {attack: list(reasons) for attack, reasons in self.weak.items()}
        for attack, share in best.items():
            if share < ENOUGH:
                weak.setdefault(attack, []).append(
                    f"{attack} reconstructs at most {share:.0%} of the images, even without a defense after the first "
                    "split point, so it may not work on this network"
                )
        return Attackers(weak, best, self.faults, self.restored)

    def reasons(self, split: str, defense: str, attacks: Iterable[str]) -> tuple[str, ...]:
        """Why a cell without leaks is not judged; () if a strong enough attacker tried."""
        faults, names = tuple(self.faults.get(split, ())), list(attacks)
        share = self.restored.get((split, defense), 1.0)
        if share < ENOUGH:
            faults += (
                f"the attacker who knows the defense puts only {share:.0%} of the features back where they belong; another may do better",
            )
        adapted = [a for a in names if a.startswith(ADAPTED)]
        relevant = names if defense == "none" else adapted
        if not relevant:
            return (*faults, f"no attacker knows the defense; add {ADAPTED}{NEEDED} to attacks")
        if NEEDED not in {base(a).partition("+")[0].partition("@")[0] for a in relevant}:
            missing = NEEDED if defense == "none" else ADAPTED + NEEDED
            return (*faults, f"{missing} did not run; add it to attacks")
        able = [a for a in relevant if not self.weak.get(base(a)) and base(a) != ORACLE]
        strong = [a for a in able if base(a).partition("+")[0].partition("@")[0] == NEEDED]
        if strong:
            return faults
        return (*faults, *dict.fromkeys(reason for a in relevant for reason in self.weak.get(base(a), ())))


def base(attack: str) -> str:
    """The attack without its adaptation and its number of queries, "dci+refine" of "adapted_dci+refine x10"."""
    return attack.partition(" x")[0].removeprefix(ADAPTED)


def read(workdir: Path, config: Mapping[str, Any]) -> Attackers:
    """The `Attackers` of a finished run, from its config and the file of its control."""
    weak = {}
    for name in config["attacks"]:
        start = starts_from(name)
        sentences = [s for n in (name, *([start] if start else ())) for s in shortfalls(config, section(n))]
        if sentences:
            weak[base(name)] = list(dict.fromkeys(sentences))
    file = workdir / "evaluation" / CONTROL
    control = json.loads(file.read_text()) if file.exists() else {"attacks": {}, "splits": {}}
    restored = {}
    for path in workdir.glob(f"attacks/{ADAPTED}{NEEDED}/*/{RESTORED}"):
        split, _, defense = path.parent.name.partition(" ")
        restored[split, defense.partition(" x")[0]] = json.loads(path.read_text())["share"]
    return Attackers(weak, control["attacks"], control["splits"], restored)
