"""The least settings at which a failed attack is evidence."""

import importlib

import pytest

from configs import audit, default
from dci_jax.attacks.registry import ATTACKS
from dci_jax.minimum_settings import SUFFICIENT, shortfalls
from dci_jax.settings.fields import FIELDS

AUDITS = ("audit", "audit_cifar", "audit_imagenet")


def test_every_field_exists_and_no_range_asks_for_more_than_it_allows():
    config = default.get_config()
    for field in SUFFICIENT:
        section, name = field.split(".")
        assert name in config[section], field
        assert field in FIELDS


@pytest.mark.parametrize("name", AUDITS)
def test_the_audits_own_settings_suffice(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert [s for attack in ATTACKS.values() for s in shortfalls(config, attack.section)] == []


@pytest.mark.parametrize("field", SUFFICIENT)
def test_less_than_asked_is_a_sentence_with_value_and_cure(field):
    config, (section, name) = audit.get_config(), field.split(".")
    asked = SUFFICIENT[field]
    if isinstance(asked, tuple):
        config[section][name] = (1, 1)
    else:
        low = asked.low - 1 if asked.low else asked.high + 1
        config[section].update({name: type(config[section][name])(low)})
    attack = (
        section
        if section in ("dci", "refine", "rmle")
        else next((a.section for a in ATTACKS.values() if a.section == section), "dci")
    )
    (sentence,) = shortfalls(config, attack)
    assert sentence.startswith(f"{field} is ")
    assert "; give " in sentence


def test_another_attacks_settings_do_not_count():
    config = audit.get_config()
    config.rmle.steps = 1
    assert shortfalls(config, "dci") == []
