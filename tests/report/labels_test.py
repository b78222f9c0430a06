"""What the report calls things: every attack and defense has its row, and no page needs JAX."""

import subprocess
import sys

import pytest

from dci_jax.attacks import registry
from dci_jax.defenses.registry import DEFENSES
from dci_jax.report import labels
from tests.command_line import ROOT


def test_every_attack_and_defense_has_a_label():
    assert labels.ATTACKS.keys() == registry.ATTACKS.keys()
    assert labels.DEFENSES.keys() == DEFENSES.keys()
    assert len({color for _, color in labels.ATTACKS.values()}) == len(registry.ATTACKS)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("dci", "DCI, one forward pass"),
        ("dci@dead_leaves", "DCI, one forward pass, from dead_leaves alone"),
        ("adapted_dci", "DCI, one forward pass, adapted to the defense"),
        ("adapted_dci+refine x10", "DCI, then white-box refinement, adapted to the defense, 10 queries of each image"),
        ("oracle", "oracle: learned from real images"),
        ("mean_image", "baseline: mean of the other images"),
        ("one_of_tomorrow", "one_of_tomorrow"),
    ],
)
def test_a_name_is_said_in_words(name, label):
    assert labels.attack(name) == label


def test_an_attack_keeps_its_color_whatever_it_adapts_to_or_learns_from():
    assert labels.color("adapted_dci") == labels.color("dci@dead_leaves") == labels.color("dci")
    assert labels.color("oracle") not in {color for _, color in labels.ATTACKS.values()}


@pytest.mark.parametrize("name", registry.ATTACKS)
def test_what_an_attack_starts_from_and_its_settings_exist(name):
    row = registry.find(name)
    assert row.starts_from in ("", *registry.ATTACKS)
    assert row.section in {other.partition("+")[0] for other in registry.ATTACKS} | {"refine", "unet"}
    if row.adapts:
        adapted = registry.find(f"adapted_{name}")
        assert adapted.section == row.section
        assert adapted.starts_from == (row.starts_from and f"adapted_{row.starts_from}")


def test_no_page_imports_jax():
    """In a process of its own: this one has JAX."""
    names = [f"dci_jax.report.{path.stem}" for path in sorted((ROOT / "dci_jax" / "report").glob("*.py"))]
    heavy = "{'jax', 'jaxlib', 'flax', 'optax', 'orbax', 'tensorflow'}"
    lines = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
