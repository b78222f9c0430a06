"""The audit as a gate of a release pipeline: whether the policy is met, in a sentence, and as JUnit's XML."""

import json
from pathlib import Path
from xml.etree import ElementTree

from dci_jax.errors import InputError

CODE = 3  # exit code where the policy is not met
MET = "none"  # the level of a pair of which no more images leak than the policy allows, and of which none is in doubt


def gate(folder: Path) -> str:
    """Why the audit in the folder of a report does not meet its policy, in one sentence; "" where it does. Writes junit.xml beside it.

    The policy is met where every pair of split point and defense is judged, and none leaks or is in doubt: audit the pair that is shipped.

    Raises:
      InputError: the report is not of an audit.
    """
    file = folder / "audit.json"
    if not file.is_file():
        raise InputError(f"--gate: {folder} has no audit.json, so it is not an audit; run configs/audit.py.")
    cells = json.loads(file.read_text())["cells"]
    _junit(cells, folder / "junit.xml")
    missed = [cell for cell in cells if cell["level"] != MET]
    if not missed:
        return ""
    worst = max(missed, key=lambda cell: cell["share"][0])
    return (
        f"{len(missed)} of {len(cells)} pairs of split point and defense do not meet the policy; the worst is {worst['split']} with "
        f"{worst['defense']}: {worst['share'][0]:.0%} of the images leak ({worst['level']})."
    )


def _junit(cells, file):
    """One test case for each pair; a failure says how much leaks."""
    missed = sum(cell["level"] != MET for cell in cells)
    suite = ElementTree.Element("testsuite", name="dci_jax audit", tests=str(len(cells)), failures=str(missed))
    for cell in cells:
        case = ElementTree.SubElement(suite, "testcase", classname=cell["split"], name=cell["defense"])
        if cell["level"] != MET:
            said = f"{cell['level']}: {cell['share'][0]:.0%} of the images leak"
            why = "; ".join(cell["reasons"])
            ElementTree.SubElement(case, "failure", message=f"{said}; {why}" if why else said)
    ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)
