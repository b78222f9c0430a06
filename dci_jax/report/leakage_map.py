"""The facts of an audit's verdict and of its leakage map, where split points are columns and defenses are rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dci_jax.report.leaks import Policy
from dci_jax.report.verdict import LEVELS, Cell, least

STYLES = dict(zip(LEVELS, ("low", "doubt", "some", "most", "unknown"), strict=True))  # classes of style.css


def verdict(found: Sequence[Cell], chosen: Cell | None, policy: Policy) -> dict[str, Any]:
    """What verdict.html.jinja says: how many cells have each level, the one that leaks most, the one to choose.

    "told" is the cell whose labels are told most often beyond the share of images that leak, of those where most labels are; or None.
    """
    hidden = [c for c in found if (c.label_told or 0) >= 0.5 and c.label_told > c.share[0]]
    return {
        "pairs": len(found),
        "count": Counter(c.level for c in found),
        "worst": max(found, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0)),
        "chosen": chosen,
        "least": least(found, policy),
        "told": max(hidden, key=lambda c: c.label_told - c.share[0], default=None),
    }


def leakage_map(
    found: Sequence[Cell], chosen: Cell | None, policy: Policy, baselines: Sequence[dict]
) -> dict[str, Any]:
    """What leakage_map.html.jinja shows: a cell's color is its level; its numbers are the strongest attacker's.

    Args:
      found, chosen, policy: see `verdict`.
      baselines: their rows of summary.csv.
    """
    splits, defenses = (list(dict.fromkeys(getattr(c, part) for c in found)) for part in ("split", "defense"))
    at = {(c.split, c.defense): c for c in found}
    lines = [(defense, [_square(at.get((split, defense)), chosen, policy) for split in splits]) for defense in defenses]
    return {"splits": splits, "lines": lines, "baselines": baselines}


def _square(cell, chosen, policy):
    """None where the split was not audited with the defense."""
    return cell and {
        "cell": cell,
        "style": STYLES[cell.level],
        "chosen": cell is chosen,
        "unsure": cell.level == LEVELS[4],
        "costly": cell.kept is not None and cell.kept[0] < policy.server_agreement,
    }
