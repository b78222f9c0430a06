"""An audit's page as evidence: scope, what was not tried, comparison with the last audit, hashes."""

import hashlib
import json
import shutil

import pytest

from dci_jax.errors import InputError
from dci_jax.report import audit, evidence
from tests.report.audit_test import change, workdir  # noqa: F401


def test_the_page_names_system_assessor_and_criterion_and_says_what_is_missing(workdir):  # noqa: F811
    page = audit.write(workdir).read_text()
    assert "not stated (audit.system)" in page
    assert "sha256 of target.weights" not in page
    config = json.loads((workdir / "config.json").read_text())
    config["audit"] |= {"system": "Door camera 2.1 <beta>", "criterion": "none of our photographs, J. Doe, 2026-11-01"}
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "depends.json").write_text(json.dumps({"target.weights": "ab" * 32, "lpips": evidence._EMPTY}))
    (workdir / "environment.json").write_text(json.dumps({"command": "x", "started": "2026-11-02 10:00 UTC"}))
    page = audit.write(workdir).read_text()
    assert "Door camera 2.1 &lt;beta&gt;" in page
    assert "J. Doe, 2026-11-01" in page
    assert "2026-11-02 10:00 UTC" in page
    assert "ab" * 32 in page
    assert evidence._EMPTY not in page


def test_attacks_that_were_left_out_are_listed_and_those_that_ran_are_not(workdir):  # noqa: F811
    audit.write(workdir)
    page = (workdir / "report" / "index.html").read_text()
    listed = page[page.index("What was not tried") :]
    listed = listed[: listed.index("</ul>")]
    assert "deep image prior" in listed
    assert "diffusion" in listed
    assert "DCI, one forward pass<" not in listed


def test_every_file_of_the_report_is_signed(workdir):  # noqa: F811
    folder = audit.write(workdir).parent
    lines = dict(reversed(line.split("  ")) for line in (folder / evidence.SUMS).read_text().splitlines())
    assert {"index.html", "audit.json", "audit.csv"} <= lines.keys()
    for name, value in lines.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == value


def test_better_worse_new_and_dropped_pairs_are_told_from_the_last_audit(workdir, tmp_path_factory):  # noqa: F811
    last = tmp_path_factory.mktemp("last") / "run"
    audit.write(workdir)
    shutil.copytree(workdir, last)
    before = json.loads((last / "report" / "audit.json").read_text())
    cells = before["cells"]
    cells[3] |= {"share": [1.0, 0.9, 1.0]}  # leaked then, does not now
    cells[0] |= {"share": [0.0, 0.0, 0.1]}  # did not leak then
    cells[1] |= {"split": "gone"}
    (last / "report" / "audit.json").write_text(json.dumps(before))
    config = json.loads((workdir / "config.json").read_text())
    config["audit"]["previous"] = str(last)
    (workdir / "config.json").write_text(json.dumps(config))
    page = audit.write(workdir).read_text()
    assert "1 of 5 pairs are as before" in page
    assert "no longer audited" in page
    now = audit.cells([workdir], audit.Policy(**{n: config["audit"][n] for n in audit.POLICY}), *costs_and_known())
    told = {
        (split, defense): said for split, defense, _, _, said in evidence.changes(now, evidence.previous(str(last)))
    }
    assert told == {
        ("stem", "none"): "worse",
        ("stem", "gaussian 1"): "new",
        ("deep", "none"): "as before",
        ("deep", "gaussian 1"): "better",
        ("gone", "gaussian 1"): "no longer audited",
    }


def costs_and_known():
    from tests.report.audit_test import COSTS, Attackers

    return {"stem": COSTS, "deep": COSTS | {"device_flops": 80}}, Attackers()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "holds no audit.json"),
        ('{"version": 9, "cells": []}', "another version"),
        ('{"version": 1, "cells": [1]}', "damaged"),
        ("[]", "audit.json"),
        ("\x00", "audit.json"),
        ("", "audit.json"),
    ],
)
def test_a_last_audit_that_is_none_is_one_sentence(tmp_path, text, said):
    if text:
        (tmp_path / "audit.json").write_text(text)
    with pytest.raises(InputError, match=said):
        evidence.previous(str(tmp_path))
