"""An exported program as plain data: its nodes, its weights, and the places where it can be split."""

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dci_jax.convert.modules import WEIGHTED, module_path, modules
from dci_jax.errors import InputError
from dci_jax.importers.aten import OPERATORS
from dci_jax.importers.place import Place, together
from dci_jax.importers.program import BATCH_NORM, INPUT, Node, between, weights_of
from dci_jax.importers.split_points import split_points
from dci_jax.tensors import OUTPUTS

_IGNORED = ("device", "layout", "pin_memory", "memory_format", "non_blocking")
_PREFIXES = 16  # tokens before those of the grid, at most: a class token, registers


@dataclass(frozen=True)
class Graph:
    """What a bundle holds.

    Attributes:
      nodes: those that the answer is made of, in their order.
      places: all places where the network can be cut, in their order.
      output: the value that the network returns.
      weights: by key; what does not depend on the input is computed and kept as one.
      values: fx nodes by the name of their value, for `parity`.
      classes: numbers of the answer [B, classes]; 0 where it is none.
    """

    nodes: tuple[Node, ...]
    places: tuple[Place, ...]
    output: str
    weights: dict[str, np.ndarray]
    values: dict[str, Any]
    classes: int


def read(program: Any, joined: bool = False) -> Graph:
    """The graph of a program in core ATen operators (`source.load`); of `joined` features the answer is the last place.

    Raises:
      InputError: an operator that `aten.OPERATORS` does not have, more than one input or answer, or a size that is no
        multiple of the batch's.
    """
    known = given(program)
    keys = {node: key for node, (key, _) in known.items()}
    # What has no value only asserts something.
    fx = [node for node in program.graph.nodes if node.op == "call_function" and "val" in node.meta]
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node not in known]
    (answers,) = (node.args[0] for node in program.graph.nodes if node.op == "output")
    if len(inputs) != 1 or len(answers) != 1:
        raise InputError(
            f"The network has {len(inputs)} inputs and {len(answers)} answers; give one that takes images and returns one "
            "tensor, exported in evaluation mode (model.eval())."
        )
    alive, sized = set(inputs), set()
    values = {node: tensor for node, (_, tensor) in known.items()}
    weights = dict(known.values())
    for node in fx:
        above = node.all_input_nodes
        if isinstance(node.meta["val"], torch.SymInt | int):
            sized.add(node)
        elif alive.intersection(above):
            alive.add(node)
        elif not sized.intersection(above):  # depends on nothing: computed now
            values[node] = evaluate(node, values)
            if isinstance(values[node], torch.Tensor):
                keys[node] = _key(node, keys, weights)
                weights[keys[node]] = values[node]
        else:
            sized.add(node)
    nodes = [_node(node, inputs[0], keys) for node in fx if node not in keys and _tensor(node) and node not in values]
    answer = answers[0]
    nodes = between(nodes, [INPUT], [answer.name])
    needed = {node.name for node in nodes}
    _check(nodes, {node.name: node for node in fx})
    used = {what for node in nodes for what in weights_of(node)}
    arrays = {key: _array(weights[key]) for key in sorted(used)}
    kept = [node for node in fx if node.name in needed and node in alive]
    shape = answer.meta["val"].shape
    weighted = {node.name for node in nodes if node.operator in WEIGHTED and weights_of(node)}
    operators = {node.name: getattr(node.target, "__name__", "").partition(".")[0] for node in kept}
    alive = _alive(kept, inputs[0], answer)
    places = _places(kept, inputs[0], answer, joined, alive)
    names = {node.name: {INPUT if each is inputs[0] else each.name for each in alive[node]} for node in kept}
    places = split_points(places, modules(kept), operators, weighted, names)
    if joined:
        places = (*places[:-1], replace(places[-1], name=OUTPUTS, default=True))
    named = {node.name: node for node in kept} | {INPUT: inputs[0]}
    return Graph(nodes, places, answer.name, arrays, named, int(shape[1]) if len(shape) == 2 else 0)


def given(program: Any) -> dict[Any, tuple[str, torch.Tensor]]:
    """Of each placeholder but the input's (key, tensor): parameters, buffers and constants."""
    signature, found = program.graph_signature, {}
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in named:
            key = named[node.name]
            tensor = program.state_dict[key] if key in program.state_dict else program.constants[key]
            found[node] = key, tensor.detach()
    return found


def evaluate(node: Any, values: dict) -> Any:
    """What PyTorch computes for an fx node out of the values of those above it."""
    arguments, keywords = torch.fx.node.map_arg((node.args, node.kwargs), lambda above: values[above])
    if _operator(node) == "copy":  # PyTorch has no gradient of it
        return arguments[1].expand_as(arguments[0]).to(arguments[0].dtype)
    return node.target(*arguments, **keywords)


def _key(node, keys, weights):
    """Of a computed constant: its weight's and what was done to it."""
    above = [keys[n] for n in node.all_input_nodes if n in keys]
    key = f"{above[0] if above else 'constant'}.{_operator(node)}"
    while key in weights:
        key += "_"
    return key


def _operator(node):
    target = node.target
    return target.__name__ if not hasattr(target, "_schema") else target._schema.name.removeprefix("aten::")


def _tensor(node):
    return not isinstance(node.meta["val"], torch.SymInt | int)


def _node(node, start, keys):
    def plain(argument):
        if isinstance(argument, list | tuple):
            return [plain(a) for a in argument]
        if isinstance(argument, torch.fx.Node):
            if argument is start:
                return {"value": INPUT}
            if argument in keys:
                return {"weight": keys[argument]}
            return {"value": argument.name} if _tensor(argument) else _size(argument.meta["val"])
        if isinstance(argument, torch.dtype):
            return {"dtype": str(argument).removeprefix("torch.").replace("64", "32")}
        if isinstance(argument, float) and not math.isfinite(argument):
            return {"number": str(argument)}
        return argument

    keywords = {name: plain(a) for name, a in node.kwargs.items() if name not in _IGNORED}
    return Node(node.name, _operator(node), [plain(a) for a in node.args], keywords)


def _size(size):
    """A symbolic size, k times the batch's."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    factors = [(expression / symbol).simplify() for symbol in expression.free_symbols]
    if len(factors) != 1 or not factors[0].is_Integer:
        raise InputError(f"The network makes a size {expression} of its batch; it has to be a whole multiple.")
    return {"batch": int(factors[0])}


def _check(nodes, fx):
    missing = {}
    for node in nodes:
        if node.operator not in OPERATORS and node.operator != BATCH_NORM:
            missing.setdefault(node.operator, module_path(fx[node.name]) or "the network itself")
    if missing:
        named = ", ".join(f"{operator!r} (in {where})" for operator, where in sorted(missing.items()))
        what = f"The operator {named}" if len(missing) == 1 else f"The operators {named}"
        raise InputError(
            f"{what} cannot be converted; replace it in the network, or add it to dci_jax/importers/aten.py."
        )


def _array(tensor):
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def _alive(kept, start, answer):
    """Node -> the nodes that depend on the input and are needed after it."""
    last = {answer: len(kept)}
    for number, node in enumerate(kept):
        for above in node.all_input_nodes:
            last[above] = max(last.get(above, -1), number)
    living, found = {start}, {}
    for number, node in enumerate(kept):
        living = {each for each in {*living, node} if last.get(each, -1) > number}
        found[node] = living
    return found


def _places(kept, start, answer, joined, alive):
    """Cuts: of one tensor, behind which nothing that depends on the input is used but itself, or of several images."""
    grid, layout, images, found = (0, 0), "image", {}, []
    for node in kept:
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor) or (node is answer and not joined):
            continue
        shape, name, one, alone = list(value.shape), node.name, None, alive[node] == {node}
        if str(shape[0]) != str(start.meta["val"].shape[0]):
            continue
        if len(shape) == 4 and min(shape[1:]) > 0:
            own = _layout(shape, layout, start.meta["val"].shape[2:])
            sides, channels = (shape[2:], shape[1]) if own == "image" else (shape[1:3], shape[3])
            images[node] = one = Place(name, name, own, tuple(sides), 0, channels, default=False)
            grid, layout = (one.grid, own) if alone else (grid, layout)
        elif len(shape) == 3 and math.prod(grid) > 1 and 0 <= shape[1] - math.prod(grid) <= _PREFIXES:
            one = Place(name, name, "tokens", grid, shape[1] - math.prod(grid), shape[2], default=False)
        if alone and one:
            found.append(one)
        elif node in alive[node] <= images.keys():
            with contextlib.suppress(InputError):  # grids that do not divide
                found.append(together([images[each] for each in kept if each in alive[node]], name))
    return found


def _layout(shape, before, image):
    """Which axes of [B, a, b, c] have the image's proportions: the last two, of "image", or the first two, of "grid"."""
    (_, a, b, c), (height, width) = shape, image
    last, first = (abs(h * width - w * height) < max(height, width) for h, w in ((b, c), (a, b)))
    if last == first:
        return before
    return "image" if last else "grid"
