"""Which places users would call split points, and their names: the ends of a network's modules, of PyTorch or JAX.

A module whose children are blocks themselves (a stage, a list of blocks) is looked into; one whose children are single
layers is a block, and its end a split point. Layers between blocks go together from one convolution, or matrix product,
up to the next. Every other place can be asked for by its name.

Where blocks follow each other without one tensor alone in between (a U-Net, the branches of an HRNet, a pyramid on a
backbone), the ends of blocks are split points of several tensors.
"""

import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from dci_jax.importers.place import Place

_LONG = 6  # weighted layers in a row, without blocks, that are taken apart (VGG)


def split_points(
    places: Sequence[Place],
    modules: Mapping[str, Sequence[str]],
    operators: Mapping[str, str],
    weighted: set[str],
    alive: Mapping[str, Set[str]],
) -> tuple[Place, ...]:
    """The places with their names, and those that are split points by default marked; of several tensors only these.

    Args:
      places: named by their values.
      modules: value -> paths of the modules that it is computed in, from the whole network's "" inwards; of all values
        that depend on the input, in their order.
      operators: value -> name of its operator.
      weighted: the values of convolutions, and of matrix products with a weight.
      alive: value -> the values that are needed after it is computed.
    """
    order = list(modules)
    # Of one pixel is what was pooled.
    ends = {place.value: place.grid != (1, 1) for place in places if not place.parts}
    several = {
        place.value: sum(math.prod(part.grid) * part.channels for part in place.parts)
        for place in places
        if place.parts and all(part.grid != (1, 1) for part in place.parts)
    }
    units = {value: path for path, value in _units("", order, modules, weighted, ends)}
    units |= {value: path for path, value in _between_units(order, units, modules, weighted, several, alive)}
    places = [place for place in places if place.value in ends or place.value in units]
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
    runs = _runs(path, members, chains)
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


def _runs(path, members, chains):
    """(child, nodes): consecutive nodes of one child of a module, or of the module itself."""
    depth, runs = chains[members[0]].index(path), []
    for value in members:
        chain = chains[value]
        child = chain[depth + 1] if len(chain) > depth + 1 else path
        if not runs or runs[-1][0] != child:
            runs.append((child, []))
        runs[-1][1].append(value)
    return runs


def _between_units(order, units, chains, weighted, several, alive):
    """(path, value) of blocks' ends, of several tensors, from one unit to the next where that is more than one module."""
    gap, before, started, outside = [], frozenset(), {}, ()
    for value in order:
        started[value], before = before, alive[value]
        gap.append(value)
        if value in units or value == order[-1]:
            shared = [path for path in chains[gap[0]] if all(path in chains[each] for each in gap)][-1]
            # A module from its first node on is a block itself.
            if not shared or (shared in outside and shared != units.get(value)):
                found = list(_several(shared, gap, chains, weighted, several, [], alive=alive, started=started))
                # What is only laid side by side after a place is that place's again.
                yield from (each for each in found if weighted.intersection(gap[gap.index(each[1]) + 1 :]))
            gap, outside = [], chains[value]


def _several(path, members, chains, weighted, several, around, *, alive, started):
    """The same in one module; `around`: of the modules that it is in, the values (before, after) each.

    A block ends where the fewest numbers are sent behind its last weights: a pooling that follows is the next one's. What goes
    past a block within a larger one, as in a residual block, is no split point's.
    """
    for child, run in _runs(path, members, chains):
        if child == path or len(weighted.intersection(run)) < 2:
            continue
        outer = [*around, (started[run[0]], alive[run[-1]])]
        inner = list(_several(child, run, chains, weighted, several, outer, alive=alive, started=started))
        yield from inner
        last = max(number for number, value in enumerate(run) if value in weighted)
        end = min((value for value in reversed(run[last:]) if value in several), key=several.get, default=None)
        if end and end not in {value for _, value in inner} and not any(_past(alive[end], *each) for each in around):
            yield child, end


def _past(sent, before, after):
    """Whether some of what is sent in a module goes past the block that it is sent behind, from before the module to within it."""
    return bool(sent & before - after) or len(sent) > max(len(before), len(after))


def _inner(value, order, chains, units, operators):
    """Of a place within a block: the largest module that ends there and is in no block's way, or its operator's name."""
    around = [
        path for path in chains[value][1:] if not any(f"{unit}.".startswith(f"{path}.") for unit in units.values())
    ]
    for path in around:
        if [name for name in order if path in chains[name]][-1] == value:
            return path
    return f"{chains[value][-1]}.{operators[value]}".removeprefix(".")
