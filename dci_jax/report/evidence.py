"""What makes an audit's page evidence: who asked for what and when, what was not tried, what changed since the last audit, hashes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from dci_jax.errors import InputError
from dci_jax.report import labels
from dci_jax.report.attackers import base
from dci_jax.report.verdict import Cell
from dci_jax.runtime.files import read_json, replacing

SUMS = "SHA256SUMS"
# What an attacker may have, and no attack of this project has.
NOT_HERE = (
    "a generator or diffusion model of real images as a prior (docs/own_prior.py shows how to bring one)",
    "pairs of real inputs and their features, or real images of the same kind",
    "influence on the network's training, or on the device",
    "more than the queries of each input that are listed above",
    "side channels: timing, memory, traffic",
)
# Clauses that ask for such a test. It answers them in part, and certifies nothing.
CLAUSES = (
    ("OWASP AI Testing Guide v1, AITG-MOD-05", "intermediate layer inversion: whether a recognisable input comes back"),
    ("OWASP AISVS 1.0, C11.1.2 and C11.1.3", "adversarial tests under version control, run at every release"),
    ("HITRUST AI, 07.06h", "model inversion, before new models and changed infrastructure, and yearly"),
    ("NIST AI 100-2 E2025", "terms: a privacy attack by data reconstruction, at inference time"),
)
_SAME = "as before"
_EMPTY = hashlib.sha256().hexdigest()  # of a file that was not given


def values(workdir: Path, config: dict[str, Any], found: Sequence[Cell], images: int) -> dict[str, Any]:
    """What evidence.html.jinja shows.

    Raises:
      InputError: see `previous`.
    """
    before = previous(config["audit"].get("previous", ""))
    told = changes(found, before) if before else []
    return {
        "scope": scope(workdir, config, images),
        "compared": len(told),
        "changes": [row for row in told if row[-1] != _SAME],
        "not_tried": not_tried(found),
        "clauses": CLAUSES,
    }


def scope(workdir: Path, config: dict[str, Any], images: int) -> list[tuple[str, str]]:
    """(term, value) of what was audited, by whom, by which criterion, when, and of which files."""
    environment = json.loads((workdir / "environment.json").read_text())
    audit, target = config["audit"], config["target"]
    file = workdir / "depends.json"
    hashes = json.loads(file.read_text()) if file.exists() else {}
    rows = [
        ("system", audit.get("system") or "not stated (audit.system)"),
        ("assessor", audit.get("assessor") or "not stated (audit.assessor)"),
        (
            "the owner's criterion",
            audit.get("criterion") or "not stated (audit.criterion); the policy's defaults apply",
        ),
        (
            "criterion fixed",
            f"when the run began, {environment.get('started', 'unknown')}; it cannot change afterwards",
        ),
        ("network", target["name"]),
        ("private images", f"{images}, {config['data']['images'] or 'those that come with the package'}"),
        ("program", f"dci_jax {environment.get('dci_jax', 'of an unknown version')}, seed {config['seed']}"),
    ]
    rows += [(f"sha256 of {field}", value) for field, value in hashes.items() if value != _EMPTY]
    return rows


def not_tried(found: Sequence[Cell]) -> list[str]:
    """The attacks of this project that the audit left out, and what no attack here has."""
    tried = {base(attack) for cell in found for attack in cell.attacks}
    return [label for name, (label, _) in labels.ATTACKS.items() if name not in tried] + list(NOT_HERE)


def previous(path: str) -> dict[tuple[str, str], dict]:
    """The cells of an earlier audit, by split point and defense; {} for no path.

    Args:
      path: its workdir, or the folder of its report.

    Raises:
      InputError: there is no audit, or one of another version.
    """
    if not path:
        return {}
    files = [folder / "audit.json" for folder in (Path(path), Path(path) / "report")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(
            f"audit.previous is {path}, which holds no audit.json; give an audit's workdir, or its report."
        )
    audit, schema = read_json(file), Path(__file__).with_name("audit.schema.json")
    if wrong := best_match(Draft202012Validator(json.loads(schema.read_text())).iter_errors(audit)):
        raise InputError(
            f"audit.previous: {file} is damaged or of another version ({wrong.message[:200]}); make its report again with "
            "python -m dci_jax.report, or leave it out."
        )
    return {(cell["split"], cell["defense"]): cell for cell in audit["cells"]}


def changes(found: Sequence[Cell], before: dict[tuple[str, str], dict]) -> list[tuple[str, str, str, str, str]]:
    """(split, defense, share that leaked, share that leaks, what changed) for each pair of both audits."""
    rows = []
    for cell in found:
        old = before.get((cell.split, cell.defense))
        if old is None:
            rows.append((cell.split, cell.defense, "", f"{cell.share[0]:.0%}", "new"))
            continue
        was, now = old["share"], cell.share
        # Beyond both intervals, so that two draws of one attack are no change.
        said = (
            "worse" if now[0] > was[2] and was[0] < now[1] else "better" if now[0] < was[1] and was[0] > now[2] else ""
        )
        rows.append((cell.split, cell.defense, f"{was[0]:.0%}", f"{now[0]:.0%}", said or _SAME))
    audited = {(cell.split, cell.defense) for cell in found}
    return rows + [
        (*key, f"{old['share'][0]:.0%}", "", "no longer audited") for key, old in before.items() if key not in audited
    ]


def sign(folder: Path) -> None:
    """Write the sha256 of every file of a report beside them, as `sha256sum -c SHA256SUMS` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SUMS, "junit.xml"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in files]
    with replacing(folder / SUMS) as stream:
        stream.write("\n".join(sums) + "\n")
