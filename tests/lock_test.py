"""launch/lock.txt: what it pins is what is asked for, measured and run by CI."""

import itertools
import json
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.command_line import ROOT


def locked(python):
    """Package -> version, of the lines of launch/lock.txt that are meant for this Python on a Linux machine."""
    place = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    lines = (line for line in (ROOT / "launch" / "lock.txt").read_text().splitlines() if not line.startswith("#"))
    found = [Requirement(line) for line in lines]
    found = [one for one in found if one.marker is None or one.marker.evaluate(place)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}
    assert len(versions) == len(found), "a package has two versions for one Python"
    return versions


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_a_version_that_will_do_of_every_package_that_is_asked_for(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = locked(python)
    for line in (
        *project["dependencies"],
        *itertools.chain(*(extra for name, extra in project["optional-dependencies"].items() if name != "demo")),
    ):
        asked = Requirement(line)
        assert versions.get(canonicalize_name(asked.name), "0") in asked.specifier, f"{line}: run launch/lock.sh"


def test_the_lock_names_what_was_measured_and_what_ci_installs():
    measured = json.loads((ROOT / "benchmarks" / "results" / "side_by_side" / "cpu.json").read_text())
    versions = locked(".".join(measured["python"].split(".")[:2]))
    assert (versions["jax"], versions["torch"]) == (measured["jax"], measured["torch"].partition("+")[0])
    assert f"torch=={versions['torch']} timm=={versions['timm']}" in (ROOT / ".ci" / "run").read_text()
