"""Which places users would call split points, and their names: the ends of a network's modules, of PyTorch or JAX.

A module whose children are blocks themselves (a stage, a list of blocks) is looked into; one whose children are single
layers is a block, and its end a split point. Layers between blocks go together from one convolution, or matrix product,
up to the next. Every other place can be asked for by its name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dci_jax.importers.program import Place

_LONG = 6  # weighted layers in a row, without blocks, that are taken apart (VGG)


def split_points(
    places: tuple[Place, ...], modules: Mapping[str, Sequence[str]], operators: Mapping[str, str], weighted: set[str]
) -> tuple[Place, ...]:
    """The places with their names, and those that are split points by default marked.

    Args:
      places: named by their values.
      modules: value -> paths of the modules that it is computed in, from the whole network's "" inwards; of all values
        that depend on the input, in their order.
      operators: value -> name of its operator.
      weighted: the values of convolutions, and of matrix products with a weight.
    """
    order = list(modules)
    ends = {place.value: place.grid != (1, 1) for place in places}  # of one pixel is what was pooled
    units = {value: path for path, value in _units("", order, modules, weighted, ends)}
    names = {}
    for place in places:
        value = place.value
        name = units.get(value) or _inner(value, order, modules, units, operators)
        name = re.sub(r"[^\w.+-]", "_", name)
        while name in names.values():
            name += "_"
        names[value] = name
    return tuple(replace(place, name=names[place.value], default=place.value in units) for place in places)


def _units(path, members, chains, weighted, ends):
    """(path, value) of the blocks in a module, whose nodes are `members`."""
    depth = chains[members[0]].index(path)
    runs = []  # consecutive nodes of one child, or of the module itself
    for value in members:
        chain = chains[value]
        child = chain[depth + 1] if len(chain) > depth + 1 else path
        if not runs or runs[-1][0] != child:
            runs.append((child, []))
        runs[-1][1].append(value)
    counts = [len(weighted.intersection(run)) for _, run in runs]
    blocks = [child != path and count > 1 and run[-1] in ends for (child, run), count in zip(runs, counts, strict=True)]
    largest = max((count for count, block in zip(counts, blocks, strict=True) if block), default=0)
    if len(runs) == 1 and runs[0][0].rpartition(".")[2].isdigit() and runs[0][0] != path:
        yield from _units(*runs[0], chains, weighted, ends)  # a stage of one block
        return
    inner = ends.keys() & set(members[:-1])
    apart = sum(blocks) > 1 or 2 * largest > sum(counts) or (not any(blocks) and sum(counts) > _LONG) or not path
    if not inner or not apart:
        if ends.get(members[-1]):
            yield path or chains[members[-1]][-1], members[-1]
        return
    loose, whole = None, False  # the last place of the layers that go together; whether they have a weighted one
    for (child, run), block in zip(runs, blocks, strict=True):
        for value in () if block else run:
            if value in weighted:
                if loose and whole:
                    yield loose
                loose, whole = None, True
            if ends.get(value):
                loose = (child or chains[value][-1], value)
        if block:
            if loose and whole:
                yield loose
            loose, whole = None, False
            yield from _units(child, run, chains, weighted, ends)
    if loose and whole:
        yield loose


def _inner(value, order, chains, units, operators):
    """Of a place within a block: the largest module that ends there and is in no block's way, or its operator's name."""
    around = [
        path for path in chains[value][1:] if not any(f"{unit}.".startswith(f"{path}.") for unit in units.values())
    ]
    for path in around:
        if [name for name in order if path in chains[name]][-1] == value:
            return path
    return f"{chains[value][-1]}.{operators[value]}".removeprefix(".")
