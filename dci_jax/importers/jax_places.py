"""What a `Network` needs to know of a JAX function's values: places, modules, BatchNorm layers, signs.

A place is where one value that depends on the input is alive, image-like and of as many rows as there are images, or
several such values at the end of a block. A module is what parameters share a path.
"""

import contextlib
import functools
import math
import re

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from dci_jax.errors import InputError
from dci_jax.importers.jaxpr import INPUT, Program, Value
from dci_jax.importers.place import Place, together
from dci_jax.importers.split_points import split_points

_WEIGHTED = ("conv_general_dilated", "dot_general")
_MEAN = re.compile(r"(?:^|[._])(?:(?:moving|running|batch)_)?mean(?:_ema)?(?:[._]|$)")
_VARIANCE = re.compile(r"(?:^|[._])(?:(?:moving|running|batch)_)?(?:var|variance)(?:_ema)?(?:[._]|$)")
# Nonnegative where all that they take is.
_PASSED_ON = ("reduce_window_max", "reduce_max", "reduce_sum", "reshape", "transpose", "squeeze", "broadcast_in_dim")
_PASSED_ON += ("min", "add", "mul", "div", "convert_element_type", "concatenate")
_SIGNLESS = ("logistic", "exp", "abs", "square", "sqrt", "rsqrt")
_PREFIXES = 16  # tokens before those of the grid, at most: a class token, registers


def find_places(program: Program, other: Program) -> list[Place]:
    """All places of a function, named, those at the ends of modules marked.

    Args:
      program: traced for 2 images.
      other: the same for 3: what has another number of rows is no feature of an image.
    """
    needed, waiting = set(), [program.output]
    while waiting:
        value = waiting.pop()
        if value not in needed and value != INPUT:
            needed.add(value)
            waiting += program.values[value].above
    # What the answer does not need keeps nothing alive: a head whose answer is not returned, say.
    alive = {name: value for name, value in program.values.items() if value.alive and name in needed}
    order = {name: number for number, name in enumerate(alive)}
    last = {name: len(order) for name in (program.output,)}
    for number, value in enumerate(alive.values()):
        for above in value.above:
            last[above] = max(last.get(above, -1), number)
    found, living, needed_after, images, grid = [], {INPUT}, {}, {}, program.input.aval.shape[1:3]
    layout, (first, second) = ("image", (2, 1)) if channels_come_first(program) else ("grid", (1, 3))
    for name, value in alive.items():
        needed_after[name] = living = {v for v in {*living, name} if last.get(v, -1) > order[name]}
        shape, alone, one = value.shape, living == {name}, None
        if shape[:1] != (2,) or other.values[name].shape != (3, *shape[1:]):
            continue
        if len(shape) == 4:
            sides = shape[first : first + 2]
            images[name] = one = Place(name, name, layout, sides, 0, shape[second], default=False)
            grid = sides if alone else grid
        elif len(shape) == 3 and math.prod(grid) > 1 and 0 <= shape[1] - math.prod(grid) <= _PREFIXES:
            one = Place(name, name, "tokens", grid, shape[1] - math.prod(grid), shape[2], default=False)
        if alone and one:
            found.append(one)
        elif name in living <= images.keys():
            with contextlib.suppress(InputError):  # grids that do not divide
                found.append(together([images[each] for each in alive if each in living], name))
    operators = {name: program.equations[value.equation].primitive.name for name, value in alive.items()}
    weighted = {name for name, value in alive.items() if operators[name] in _WEIGHTED and value.leaves}
    return list(split_points(found, _modules(alive, weighted, found), operators, weighted, needed_after))


def channels_come_first(program: Program) -> bool:
    """Whether a function convolves images [B, C, H, W], as those from PyTorch do."""
    return any(
        e.primitive.name == _WEIGHTED[0] and e.params["dimension_numbers"].out_spec[1] == 1 for e in program.equations
    )


def _modules(values: dict[str, Value], weighted: set[str], places: list[Place]) -> dict[str, list[str]]:
    """Value -> the modules around it, by the parameters last used on the way to it; the pooling behind all places is in none."""
    paths, order = {INPUT: ""}, {name: number for number, name in enumerate(values)}
    last = max(
        (order[place.value] for place in places if place.grid != (1, 1)), default=0
    )  # of one pixel is what was pooled
    for name, value in values.items():
        before = max((above for above in value.above), key=lambda v: order.get(v, -1), default=INPUT)
        path = paths.get(before, "")
        own = sorted(leaf for leaf in value.leaves if not leaf.startswith("constant."))
        if own:
            module = own[0].rpartition(".")[0] or own[0]
            if _MEAN.search(module) or _VARIANCE.search(module):  # Haiku's averages are modules
                module = module.rpartition(".")[0] or module
            # A norm or a bias behind a convolution belongs to it, unless it is of another module.
            beside = path and module.rpartition(".")[0] == path.rpartition(".")[0]
            path = path if beside and name not in weighted else module
        elif order[name] > last:
            path = ""
        paths[name] = path
    paths |= _of_the_next(values, paths, {place.value for place in places if not place.parts})
    found = {}
    for name in values:
        parts = paths[name].split(".") if paths[name] else []
        found[name] = [".".join(parts[:depth]) for depth in range(len(parts) + 1)]
    return found


def _of_the_next(values, paths, places):
    """The paths of values that follow a place and go on to the next parameters while it stays alive: a norm's mean, say."""
    found, waiting, at_place = {}, [], False
    for name, value in values.items():
        if name in places:
            waiting, at_place = [], True
        elif value.leaves:
            found |= dict.fromkeys(waiting, paths[name])
            waiting, at_place = [], False
        elif at_place:
            waiting.append(name)
    return found


def between(program: Program, begin: Place, end: Place) -> set[str]:
    """The values that depend on the input on the way from one place to the next."""
    found, waiting = set(), list(end.values)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in (*begin.values, INPUT):
            found.add(name)
            waiting += program.values[name].above
    return found


def find_norms(program: Program, begin: Place, end: Place, used: list[str]) -> dict[str, tuple[str, str, str, str]]:
    """BatchNorm's module -> (leaf of its mean, of its variance, value that goes into it, first value behind), in a block."""
    means = {_MEAN.sub("|", leaf): leaf for leaf in used if _MEAN.search(leaf)}
    pairs = {_VARIANCE.sub("|", leaf): leaf for leaf in used if _VARIANCE.search(leaf)}
    found, inside = {}, between(program, begin, end)
    for key in means.keys() & pairs.keys():
        mean, var = means[key], pairs[key]
        first = next(v for v in program.values.values() if v.alive and v.leaves & {mean, var})
        if first.name in inside:
            found[key.partition("|")[0].strip(".") or mean] = mean, var, first.above[0], first.name
    return dict(sorted(found.items()))


def channel_axis(shape: tuple[int, ...], channels: int) -> int:
    """Which axis of a BatchNorm layer's input has its channels."""
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == channels]
    return axes[-1] if axes and axes[-1] == len(shape) - 1 else axes[0]


def pooled(program: Program, begin: Place, end: Place) -> set[str]:
    """The values that a max pooling whose windows overlap is made of, in a block."""
    found = set()
    for name in between(program, begin, end):
        equation = program.equations[program.values[name].equation]
        if equation.primitive.name == "reduce_window_max":
            sizes, steps = (equation.params[key] for key in ("window_dimensions", "window_strides"))
            if any(size > step for size, step in zip(sizes, steps, strict=True)):
                found |= {*program.values[name].above, *_before_padding(program, program.values[name].above)}
    return found


def _before_padding(program, names):
    for name in names:
        if name != INPUT and program.equations[program.values[name].equation].primitive.name == "pad":
            yield from program.values[name].above


def nonnegative(program: Program, name: str) -> bool:
    """Whether a value is never negative, as far as the operators before it tell."""
    if name not in program.values:
        return False
    by_var, signs = _signs(program)
    waiting = [program.values[name].var]
    while waiting:
        var = waiting.pop()
        if var in signs:
            continue
        if var not in by_var:
            signs[var] = False
            continue
        equation = program.equations[by_var[var].equation]
        kind, operands = equation.primitive.name, equation.invars[: 1 if equation.primitive.name == "clamp" else None]
        literal = [bool(np.all(np.asarray(a.val) >= 0)) for a in operands if isinstance(a, core.Literal)]
        others = [a for a in operands if isinstance(a, core.Var)]
        if kind == "custom_jvp_call":
            signs[var] = _maps_to_nonnegative(equation)
        elif kind in _SIGNLESS or (kind == "max" and any(literal)):
            signs[var] = True
        elif kind not in (*_PASSED_ON, "max", "clamp"):
            signs[var] = False
        elif unknown := [a for a in others if a not in signs]:
            waiting += [var, *unknown]
        else:
            signs[var] = (any if kind == "max" else all)([*literal, *(signs[a] for a in others)])
    return signs[program.values[name].var]


@functools.lru_cache(maxsize=8)
def _signs(program):
    """(variable -> value, variable -> what `nonnegative` has found out)."""
    return {value.var: value for value in program.values.values()}, {}


def _maps_to_nonnegative(equation):
    """Whether an activation gives nothing below zero, tried on numbers from -50 to 50."""
    arrays = [a.aval for a in equation.invars]
    if len(arrays) != 1 or len(equation.outvars) != 1:
        return False
    numbers = jnp.linspace(-50, 50, math.prod(arrays[0].shape), dtype=arrays[0].dtype).reshape(arrays[0].shape)
    return bool(jnp.min(core.jaxpr_as_fun(equation.params["call_jaxpr"])(numbers)[0]) >= 0)
