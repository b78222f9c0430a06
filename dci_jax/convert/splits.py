"""Which places users would call split points, and their names: the ends of a network's modules, by PyTorch's own paths.

A module whose children are blocks themselves (a stage, a list of blocks) is looked into; one whose children are single
layers is a block, and its end a split point. Layers between blocks go together from one convolution, or matrix product,
up to the next. Every other place can be asked for by its name.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dci_jax.importers.program import Place

WEIGHTED = ("convolution", "addmm", "mm", "bmm")
_LOST = "_empty_nn_module_stack_from_metadata_hook"  # torch.export's, where it lost track of the module
_LONG = 6  # weighted layers in a row, without blocks, that are taken apart (VGG)


def module_path(node: Any) -> str:
    """Where in the model an fx node comes from, such as "layer1.0.conv1"; "" of the model itself."""
    return (ancestors(node) or [""])[-1]


def ancestors(node: Any) -> list[str]:
    """The modules that an fx node lies in, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    found = [path.removeprefix("L['self']").removeprefix(".") for path, _ in stack.values()]
    return [path for path in dict.fromkeys(found) if path and path != _LOST]


def split_points(places: tuple[Place, ...], nodes: Sequence[Any], weighted: set[str]) -> tuple[Place, ...]:
    """The places with their names, and those that are split points by default marked.

    Args:
      places: named by their values.
      nodes: all fx nodes of the network, in their order.
      weighted: the names of those of them that are convolutions, or matrix products with a weight.
    """
    chains = _chains(nodes)
    order = [node.name for node in nodes]
    operators = {node.name: getattr(node.target, "__name__", "").partition(".")[0] for node in nodes}
    ends = {place.value: place.grid != (1, 1) for place in places}  # of one pixel is what was pooled
    units = {value: path for path, value in _units("", order, chains, weighted, ends)}
    names = {}
    for place in places:
        value = place.value
        name = units.get(value) or _inner(value, order, chains, units, operators)
        name = re.sub(r"[^\w.+-]", "_", name)
        while name in names.values():
            name += "_"
        names[value] = name
    return tuple(replace(place, name=names[place.value], default=place.value in units) for place in places)


def _chains(nodes):
    """value -> the modules around it, from the whole network's "" on; where they are lost those that both neighbours share."""
    found, lost = {}, []
    for node in nodes:
        chain = ["", *ancestors(node)]
        if any(path == _LOST for path, _ in (node.meta.get("nn_module_stack") or {}).values()):
            lost.append(node.name)
            found[node.name] = None
            continue
        before = next((found[name] for name in reversed(found) if found[name]), chain)
        shared = [a for a, b in zip(before, chain, strict=False) if a == b]
        found |= dict.fromkeys(lost, shared) | {node.name: chain}
        lost = []
    return found | {name: [""] for name in lost}


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
