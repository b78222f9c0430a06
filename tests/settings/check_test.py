"""What a config must not hold is refused with the value and what to give."""

import re

import pytest

from dci_jax import settings
from dci_jax.errors import InputError
from dci_jax.settings.check import check_ranges
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import Range


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dci.batch", None, "dci.batch is None; give it a value"),
        ("dci.splits", None, "dci.splits is None; give it a value"),
        ("target.name", None, "target.name is None; give it a value"),
        ("dci.max_unknowns", ("dci", "x"), r"dci.max_unknowns is \('dci', 'x'\); give for each of its numbers"),
        ("dci.max_unknowns", ((1, 2), 3), r"dci.max_unknowns is \(\(1, 2\), 3\); give for each of its numbers"),
    ],
)
def test_nothing_and_words_for_numbers_are_refused(field, value, said):
    config = settings.default()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=said):
        check_ranges(config)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rmle.prior", (1, 2), r"rmle.prior is \(1, 2\); give a string"),
        ("target.name", True, "target.name is True; give a string"),
        ("target.deploy", "x", "target.deploy is 'x'; give True or False"),
        ("dci.num_images", (3, 4), r"dci.num_images is \(3, 4\); give a whole number"),
        ("dci.max_unknowns", "x", "dci.max_unknowns is 'x'; give numbers, each a whole number"),
        ("splits", 3, r"splits is 3; give a value such as \('stem',\)"),
        ("num_queries", 3, r"num_queries is 3; give a value such as"),
    ],
)
def test_what_a_config_file_makes_another_type_of_is_refused(field, value, said):
    config = settings.default()
    config.update_from_flattened_dict({field: None})  # after which ml_collections takes anything
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=said):
        check_ranges(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dci_trained.learning_rate", -1.0),
        ("dci_trained.learning_rate", 1e30),
        ("dci_trained.learning_rate", float("nan")),
        ("dci_trained.conquer_clip", 0.0),
        ("dci_trained.conquer_clip", float("nan")),
        ("dci_trained.width", -3.0),
        ("dci_trained.width", float("inf")),
        ("dci_trained.cap", 0),
        ("dci_trained.num_corrections", 0),
        ("dci_trained.depth", 0),
        ("dci_trained.divide_steps", -3),
        ("dci_trained.conquer", (("stem", 0),)),
        ("synthesis.betas", (1.0, 1.0)),
        ("synthesis.stages", ((32, 0),)),
        ("synthesis.learning_rate", float("nan")),
        ("refine.total_variation", (0.1, -1.0)),
        ("gauss_newton.damping", 0.0),
        ("inverse_network.steps", 0),
        ("dci.num_images", 0),
        ("seed", -1),
        ("batch", 0),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_its_value_and_the_range(field, value):
    config = settings.default()
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError) as refused:
        check_ranges(config)
    assert str(refused.value).startswith(f"{field} is {value}; give ")
    form = FIELDS[field].form
    assert str(form if isinstance(form, Range) else form.each) in str(refused.value)


@pytest.mark.parametrize(
    "strength",
    [("gaussian", -1.0), ("quantize", 0.5), ("quantize", 2.5), ("dropout", 2.0), ("topk", -1.0), ("none", 1.0)],
)
def test_a_defense_of_an_impossible_strength_is_refused(strength):
    config = settings.default()
    config.defenses = (strength,)
    with pytest.raises(InputError, match=f"{strength[0]}' the strength {strength[1]}"):
        check_ranges(config)


def test_a_defense_named_twice_would_double_n_and_is_refused():
    config = settings.default()
    config.defenses = (("gaussian", 0.5), ("gaussian", 0.50000001))
    with pytest.raises(InputError, match=r"'gaussian 0\.5' twice"):
        check_ranges(config)


def test_a_chain_that_is_trained_for_nothing_is_refused():
    config = settings.default()
    config.dci_trained.layer = config.dci_trained.image = config.dci_trained.cycle = 0.0
    with pytest.raises(InputError, match="all 0"):
        check_ranges(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attacks", (1,)),
        ("defenses", (("gaussian",),)),
        ("defenses", ("gaussian", 1.0)),
        ("corruptions", (("blur", "x"),)),
        ("synthesis.stages", (32, 2)),
        ("dci_trained.conquer", (("stem", 2.5),)),
        ("refine.splits", (("stem",),)),
    ],
)
def test_what_does_not_have_the_form_of_its_field_is_refused_with_an_example(field, value):
    config = settings.default()
    section, _, name = field.rpartition(".")
    with config.ignore_type():
        (config[section] if section else config)[name] = value
    with pytest.raises(InputError, match=rf"{field} is .*; give a value such as \("):
        check_ranges(config)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("audit.rank1", "audit.rank1 is now audit.structure; give that instead (docs/fields.md explains every field)."),
        ("target.weight", "There is no field target.weight; leave it out (docs/fields.md explains every field)."),
    ],
)
def test_a_field_that_a_config_file_adds_is_refused(field, said):
    config = settings.default()
    section, name = field.split(".")
    config[section][name] = "x"
    with pytest.raises(InputError, match=re.escape(said)):
        check_ranges(config)
