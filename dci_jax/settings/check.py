"""Check a config's values against the table of its fields, before any work.

A negative learning rate or a weight of 0 would run to the end, and a crippled attack makes a split look safe.
"""

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from ml_collections import ConfigDict

from dci_jax.errors import InputError, described
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import STRENGTHS, Choice, Form, Range, Rows, Several
from dci_jax.settings.renamed import moved

MOST = 2**31 - 1  # of what is counted


def check_ranges(config: ConfigDict) -> None:
    """Raise InputError if a value is outside its field's range, even in a section that does not run."""
    _check_names(config)
    for name, field in FIELDS.items():
        check_value(name, _value(config, name), field.form)
    for field in ("defenses", "corruptions"):
        _check_strengths(field, config[field])
    if config.dci_trained.layer + config.dci_trained.image + config.dci_trained.cycle == 0:
        raise InputError("dci_trained.layer, .image and .cycle are all 0; give one of them a weight.")


def check_form(name: str, value: Any, form: Form) -> None:
    """Raise InputError if a value has the wrong type, or a row the wrong types or length."""
    if form in (str, bool) and not isinstance(value, form):
        raise InputError(f"{name} is {described(value)}; give {'a string' if form is str else 'True or False'}.")
    if isinstance(form, Choice) and (not isinstance(value, str) or value not in form.words):
        raise InputError(f"{name} is {described(value)}; give {form}.")
    if isinstance(form, Rows):
        for row in value if isinstance(value, tuple | list) else ((value,),):
            if not _fits(row, form.kinds):
                raise InputError(f"{name} is {described(value)}; give a value such as {form.example}.")


def check_value(name: str, value: Any, form: Form) -> None:
    """Raise InputError if a value has the wrong type, or a number is out of range."""
    check_form(name, value, form)
    if isinstance(form, Range):
        _check_numbers(name, value, (value,), form)
    elif isinstance(form, Several):
        if not isinstance(value, tuple | list) or not value or len(value) != (form.count or len(value)):
            raise InputError(f"{name} is {described(value)}; give {form}.")
        _check_numbers(name, value, value, form.each, "each of its numbers")
    elif isinstance(form, Rows) and form.each:
        _check_numbers(name, value, numbers(value), form.each, "each of its numbers")


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a value: itself, or those in nested tuples."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, Real) and not isinstance(value, bool):
        yield value


def _check_names(config: ConfigDict) -> None:
    """Raise InputError if a field is not in the table, or has no value."""
    for name, value in _fields(config):
        if name not in FIELDS:
            sentence = moved(name) or f"There is no field {name}; leave it out"
            raise InputError(f"{sentence} (docs/fields.md explains every field).")
        if value is None:
            raise InputError(f"{name} is None; give it a value (docs/fields.md explains every field).")


def _check_numbers(name, value, found, allowed, each=""):
    for number in found:
        real = isinstance(number, Integral if allowed.whole else Real) and not isinstance(number, bool)
        too_many = real and allowed.whole and allowed.high == math.inf and number > MOST
        if not real or number not in allowed or too_many:
            most = f", at most {MOST}" if too_many else ""
            raise InputError(f"{name} is {described(value)}; give {each and f'for {each} '}{allowed}{most}.")


def _check_strengths(field, given):
    labels = []
    for kind, strength in given:
        if field == "defenses" and ":" in kind:
            continue
        if (field, kind) not in STRENGTHS:
            kinds = [k for f, k in STRENGTHS if f == field]
            raise InputError(f"No {field[:-1]} is called {kind!r}; choose from: {', '.join(kinds)}.")
        allowed = STRENGTHS[field, kind]
        if strength not in allowed:
            raise InputError(f"{field} gives {kind!r} the strength {strength}; give {allowed}.")
        labels.append(f"{kind} {strength:g}")
        if labels.count(labels[-1]) > 1:
            raise InputError(f"{field} names {labels[-1]!r} twice (six digits count); name it once.")


def _fits(row, kinds):
    """Whether a value has these types; an integer passes as a float."""
    parts = (row,) if len(kinds) == 1 else row
    if not isinstance(parts, tuple | list) or len(parts) != len(kinds):
        return False
    return all(
        isinstance(p, {float: Real, int: Integral}.get(k, k)) and not isinstance(p, bool)
        for p, k in zip(parts, kinds, strict=True)
    )


def _fields(config, above=""):
    """(name, value) of every field, such as "dci.num_images"."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{above}{name}.")
        else:
            yield above + name, value


def _value(config, name):
    for part in name.split("."):
        config = config[part]
    return config
