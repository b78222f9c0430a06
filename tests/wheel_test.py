"""The package works outside its repository: its wheel holds the networks, and a config by path runs."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.command_line import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel installs."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel: pip install setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "dci_jax", source / "dci_jax")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", *build], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed, *arguments, cwd):
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "JAX_PLATFORMS": "cpu",
        "HOME": str(cwd),
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_wheel_holds_the_package_and_nothing_else(installed):
    assert {p.name for p in installed.iterdir() if p.suffix != ".dist-info"} == {"dci_jax"}
    for kind in ("*.safetensors", "templates/*"):
        assert {p.name for p in installed.rglob(kind)} == {p.name for p in (ROOT / "dci_jax").rglob(kind)} != set()


def test_a_config_by_path_is_planned_in_another_folder_with_an_embedded_network(installed, tmp_path):
    done = python(installed, "-c", "import dci_jax; print(dci_jax.__file__)", cwd=tmp_path)
    assert done.stdout.startswith(str(installed)), done.stderr
    line = [f"--config={ROOT / 'configs' / 'quickstart.py'}", "--workdir=run", "--dry_run"]
    done = python(installed, "-m", "dci_jax.main", *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dci: layer2.0" in done.stdout
