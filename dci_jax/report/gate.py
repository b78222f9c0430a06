"""The audit as a gate of a release pipeline: whether the policy is met, in a sentence, and as JUnit's XML."""

import json
from pathlib import Path
from xml.etree import ElementTree

from dci_jax.errors import InputError

CODE = 3  # exit code where the policy is not met


def gate(folder: Path) -> str:
    """Why the audit in the folder of a report does not meet its policy, in one sentence; "" where it does. Writes junit.xml beside it.

    The policy is met where it is met by every pair of split point and defense: audit the pair that is shipped.

    Raises:
      InputError: the report is not of an audit.
    """
    file = folder / "audit.json"
    if not file.is_file():
        raise InputError(f"--gate: {folder} has no audit.json, so it is not an audit; run configs/audit.py.")
    cells = json.loads(file.read_text())["cells"]
    _junit(cells, folder / "junit.xml")
    missed = [cell for cell in cells if not cell["meets_policy"]]
    if not missed:
        return ""
    worst = max(missed, key=lambda cell: cell["share"][0])
    return (
        f"{len(missed)} of {len(cells)} pairs of split point and defense do not meet the policy; the worst is {worst['split']} with "
        f"{worst['defense']}: {worst['share'][0]:.0%} of the images leak ({worst['level']})."
    )


def _junit(cells, file):
    """One test case for each pair; a failure says how much leaks."""
    missed = sum(not cell["meets_policy"] for cell in cells)
    suite = ElementTree.Element("testsuite", name="dci_jax audit", tests=str(len(cells)), failures=str(missed))
    for cell in cells:
        case = ElementTree.SubElement(suite, "testcase", classname=cell["split"], name=cell["defense"])
        if not cell["meets_policy"]:
            said = f"{cell['level']}: {cell['share'][0]:.0%} of the images leak"
            why = "; ".join(cell["reasons"])
            ElementTree.SubElement(case, "failure", message=f"{said}; {why}" if why else said)
    ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)
