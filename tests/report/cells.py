"""A cell of results as a run writes it, from the names in a table of a test."""

import re

from dci_jax.attacks import naming
from dci_jax.defenses.channel import Channel


def cell(split, attack, defense, **more):
    """The columns of a cell; "gaussian 1 x10" is ten queries of Gaussian noise."""
    kind, strength, queries = re.fullmatch(r"(\w+)(?: ([\d.]+))?(?: x(\d+))?", defense).groups()
    channel = Channel(kind, float(strength or 0), int(queries or 1))
    return {"split": split, "attack": attack, **naming.columns(attack), **channel.columns, **more}
