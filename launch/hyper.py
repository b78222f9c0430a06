"""Grids of overrides, for `get_hyper(hyper)` in a config file: lists of {flag: value}, one for each run.

    def get_hyper(hyper):
        return hyper.product([
            hyper.sweep("config.seed", range(3)),
            hyper.sweep("config.dci_trained.width", [1.0, 1.5]),
        ])

A flag is "config.FIELD", or "config" for another config file. The names are those of scenic and big_vision.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

Points = list[dict[str, Any]]


def sweep(flag: str, values: Iterable[Any]) -> Points:
    """One run for each value of a flag."""
    return [{flag: value} for value in values]


def fixed(flag: str, value: Any) -> Points:
    """One value: for a `product` with others."""
    return [{flag: value}]


def product(grids: Sequence[Points]) -> Points:
    """Every combination; the last grid varies fastest."""
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*grids)]


def zipit(grids: Sequence[Points]) -> Points:
    """The first of each together, the second of each, ... ValueError if they are not equally long."""
    return [{k: v for part in parts for k, v in part.items()} for parts in zip(*grids, strict=True)]


def chainit(grids: Sequence[Points]) -> Points:
    """One grid after the other."""
    return [point for grid in grids for point in grid]
