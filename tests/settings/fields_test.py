"""The table of fields against the config and the page that are made from it, and against the registries."""

import pytest

from dci_jax import settings
from dci_jax.attacks.registry import ATTACKS
from dci_jax.defenses.registry import DEFENSES
from dci_jax.evaluation import corruptions
from dci_jax.inputs.procedural import GENERATORS
from dci_jax.losses import DISTANCES
from dci_jax.settings.check import check_ranges, numbers
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.page import SECTIONS, page
from dci_jax.settings.ranges import STRENGTHS, Choice, Range, Several
from dci_jax.settings.renamed import RENAMED, moved
from tests.conftest import ROOT


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_has_a_default_of_its_form_and_a_meaning(name):
    field = FIELDS[name]
    assert field.meaning
    assert not field.meaning.endswith(".")
    if isinstance(field.form, type):
        assert type(field.default) is field.form
    elif isinstance(field.form, Choice):
        assert field.default in field.form.words
    elif isinstance(field.form, Range):
        assert type(field.default) in ((int,) if field.form.whole else (int, float))
    else:
        assert isinstance(field.default, tuple)


def test_every_number_of_a_default_has_a_range():
    for name, field in FIELDS.items():
        if next(numbers(field.default), None) is not None and name not in (
            "defenses",
            "corruptions",
        ):  # those have STRENGTHS
            assert isinstance(field.form, Range | Several) or field.form.each, name


def test_the_words_of_a_choice_are_the_keys_of_its_registry():
    learning = [name for name, attack in ATTACKS.items() if attack.learns]
    registries = {"synthesis.start": GENERATORS, "dci_trained.distance": DISTANCES, "oracle.attack": learning}
    for name, registry in registries.items():
        assert FIELDS[name].form.words == tuple(registry)


@pytest.mark.parametrize("made", [settings.default, settings.audit])
def test_the_configs_are_in_their_ranges(made):
    check_ranges(made())


def test_the_default_config_has_the_fields_of_the_table_and_no_other():
    flat = {name for name, value in settings.default().iteritems(preserve_field_references=True)}
    assert {name.partition(".")[0] for name in FIELDS} == flat
    for name, field in FIELDS.items():
        config = settings.default()
        for part in name.split("."):
            config = config[part]
        assert config == field.default


def test_a_changed_config_changes_no_default():
    settings.default().dci.num_images = 16
    assert settings.default().dci.num_images == FIELDS["dci.num_images"].default


def test_every_defense_and_damage_has_its_strengths():
    assert {k for f, k in STRENGTHS if f == "defenses"} == set(DEFENSES)
    assert {k for f, k in STRENGTHS if f == "corruptions"} == set(corruptions.CORRUPTIONS)


def test_the_page_is_of_this_table():
    assert (ROOT / "docs" / "fields.md").read_text() == page(), "its last line says how it is made"


def test_the_page_has_every_field_once_and_whole_rows():
    assert set(SECTIONS) == {name.rpartition(".")[0] for name in FIELDS}
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    for name in FIELDS:
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert row.replace("\\|", "").count("|") == 5, row


def test_an_old_name_is_gone_and_leads_to_one_that_is_there():
    for old, new in RENAMED.items():
        assert old not in FIELDS
        assert new in FIELDS
        assert moved(old).startswith(f"{old} is now {new}; ")
    assert moved("seed") is None
