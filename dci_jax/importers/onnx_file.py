"""An ONNX file as a `Network`: its operators run in JAX (`onnx_operators`), and `from_jax` finds the split points.

A value is static where it does not depend on the images: shapes, axes and what exporters compute of them. ONNX's own reference
evaluator computes these, so only what images flow through is in the table of operators.
"""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.errors import InputError, reason
from dci_jax.importers.jax_function import from_jax
from dci_jax.importers.onnx_operators import OPERATORS
from dci_jax.network import Network
from dci_jax.typing import Array

log = logging.getLogger("dci_jax")

OLDEST = 13  # opset: before that axes were attributes everywhere
_TRACED = {
    "Shape": lambda x, start=0, end=None: np.asarray(x.shape[start:end], np.int64),
    "Size": lambda x: np.int64(x.size),
}
_NARROW = {"float64": np.float32, "int64": np.int32}  # of scalars, which would widen what they meet
_SCOPES = "pkg.torch.onnx.name_scopes"  # PyTorch's exporter: the modules around a node
_RAW = {"Resize": (1, 2, 3), "Pad": (1, 3), "Reshape": (1,), "Slice": (1, 2, 3, 4), "Expand": (1,), "Tile": (1,)}


def from_onnx(
    path: str | Path,
    *,
    name: str = "",
    splits: tuple[str, ...] = (),
    size: tuple[int, int] = (0, 0),
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    crop: float = 1.0,
) -> Network:
    """Read a network from an ONNX file, opset 13 or newer; needs `pip install dci_jax[onnx]`.

    Args:
      path: of the file; it takes images [B, C, H, W] and returns logits [B, classes], or features.
      name: for reports; empty: the file's.
      splits: split points asked for by name, beside the ends of modules.
      size: (height, width) of an image where the file leaves them open; (0, 0): as in the file, or 224 x 224.
      mean, std: per-channel normalization that images in [0, 1] go through before the network; ONNX files do not say it.
      crop: the side of the centered square that is cut out of a picture, as a share of its shorter side.

    Raises:
      InputError: onnx is not installed, the file is damaged, too old, has an operator that is not supported, or is no network
        for images.
    """
    model, name = read(path), name or Path(path).stem
    shape = image_shape(model, size, path)
    apply, variables = function(model, path)
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if not norms:
        log.warning(
            "%s has no BatchNorm statistics: exporters fold BatchNorm into the convolutions. Synthesis and prior fitting have "
            "nothing to match; export with torch.onnx.export(..., training=TrainingMode.PRESERVE, do_constant_folding=False, "
            "dynamo=False) in evaluation mode to keep it",
            path,
        )
    return from_jax(apply, variables, shape, name=name, splits=splits, mean=mean, std=std, crop=crop)


def read(path: str | Path) -> Any:
    """The file as `onnx.ModelProto`, checked for what this module can run.

    Raises:
      InputError: see `from_onnx`.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"An ONNX file needs onnx ({error}): pip install 'dci_jax[onnx]'.") from error
    if not os.path.isfile(path):  # of impossible names, too
        raise InputError(f"No file at {path}; give an ONNX file.")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own, of many kinds, and files of weights beside it that are missing
        raise InputError(f"{path} cannot be read as ONNX ({reason(error)}); export the network again.") from error
    if not model.graph.node:
        raise InputError(f"{path} cannot be read as ONNX (it has no graph); export the network again.")
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        raise InputError(
            f"{path} is of opset {opset}; give one of opset {OLDEST} or newer (onnx.version_converter.convert_version)."
        )
    static = {i.name for i in model.graph.initializer}
    missing = {}
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):  # If, Loop, Scan
            missing.setdefault(node.op_type, node.name)
        elif node.domain not in ("", "ai.onnx"):
            missing.setdefault(f"{node.domain}.{node.op_type}", node.name)
        elif node.op_type in ("Constant", *_TRACED) or all(i in static for i in node.input if i):
            static |= {*node.output}
        elif node.op_type not in OPERATORS:
            missing.setdefault(node.op_type, node.name)
    if missing:
        named = ", ".join(f"{kind!r} (at {where})" for kind, where in sorted(missing.items()))
        quantized = any("Quantize" in kind or kind.endswith("Integer") for kind in missing)
        fix = "give the network before quantization" if quantized else "add it to dci_jax/importers/onnx_operators.py"
        raise InputError(f"{path} has operators that cannot be read: {named}; {fix}.")
    return model


def image_shape(model: Any, size: tuple[int, int], path: str | Path) -> tuple[int, int, int]:
    """(H, W, C) of an image that the file takes.

    Raises:
      InputError: it takes something else.
    """
    given = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in given]
    if len(inputs) != 1 or not model.graph.output:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; give a network that takes one image."
        )
    dims = inputs[0].type.tensor_type.shape.dim
    known = [d.dim_value for d in dims]
    if len(known) != 4:
        raise InputError(f"{path} takes inputs of {len(known)} axes; give a network that takes images [B, C, H, W].")
    if known[3] in (1, 3) and known[1] not in (0, 1, 3):
        raise InputError(f"{path} takes images [B, H, W, C] ({known}); export it with channels first.")
    _, channels, *sides = known
    if channels not in (0, 1, 3):
        raise InputError(
            f"{path} takes images of {channels} channels, but pictures have 3, or 1 if they are grey; begin it with a layer that makes its own of these."
        )
    for side, fixed in zip(size, sides, strict=True):
        if side and fixed and side != fixed:
            raise InputError(f"size is {size}, but {path} takes images of {sides[0]} x {sides[1]}; leave it out.")
    height, width = (side or fixed or 224 for side, fixed in zip(size, sides, strict=True))
    return height, width, channels or 3


def function(model: Any, path: str | Path) -> tuple[Callable[[dict, Array], Array], dict[str, Array]]:
    """(apply, variables): `apply(variables, images [B, H, W, C])`, and the weights by their modules' paths."""
    from onnx import numpy_helper

    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in model.graph.node:  # what follows from weights alone is computed once
        if node.op_type not in _TRACED and all(i in arrays for i in node.input if i):
            arrays |= zip(node.output, _evaluated(model, node, arrays), strict=True)
    used = {
        value
        for node in model.graph.node
        for slot, value in enumerate(node.input)
        if slot not in _RAW.get(node.op_type, ()) and not set(node.output) & arrays.keys()
    }
    weights = {n for n in used & arrays.keys() if arrays[n].dtype.kind == "f" and arrays[n].size > 1}
    names = _named(model, weights)
    variables = {name: jnp.asarray(arrays[value], jnp.float32) for (value, _), name in names.items()}
    static = {n: a for n, a in arrays.items() if n not in weights}
    (start,) = (i.name for i in model.graph.input if i.name not in {w.name for w in model.graph.initializer})
    ends = [o.name for o in model.graph.output]
    fixed = next(i for i in model.graph.input if i.name == start).type.tensor_type.shape.dim[0].dim_value
    nodes = [node for node in model.graph.node if not set(node.output) <= arrays.keys()]

    def apply(variables, images):
        values = static | {start: jnp.moveaxis(images, 3, 1)}
        for node in nodes:
            own = {v: variables[names[v, node.output[0]]] for v in node.input if v in weights}
            grow = len(images), fixed, not {*node.input[1:]}.isdisjoint(static)
            found = _run(model, node, values | own, grow if fixed not in (0, len(images)) else None, path)
            values |= zip(node.output, found, strict=False)
        return values[ends[0]] if len(ends) == 1 else tuple(values[end] for end in ends)

    return apply, variables


def _run(model, node, values, grow, path):
    """The outputs of one node; `grow` as of `_rebatched`, where there are others than the file is for."""
    inputs = [values[i] if i else None for i in node.input]
    attributes = _attributes(node)
    if node.op_type in _TRACED:
        return (_TRACED[node.op_type](inputs[0], **attributes),)
    if all(not isinstance(v, jax.Array) for v in inputs):
        return _evaluated(model, node, values)
    if grow:
        inputs = _rebatched(node.op_type, inputs, attributes, *grow)
    inputs = [
        v.astype(_NARROW.get(v.dtype.name, v.dtype)) if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in inputs
    ]
    try:
        found = OPERATORS[node.op_type](*inputs, **attributes)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path}: {node.op_type} {node.name!r} cannot be computed ({reason(error)}).") from error
    return found if isinstance(found, tuple) else (found,)


def _rebatched(kind, inputs, attributes, batch, fixed, constant):
    """Inputs of a node of a file that was exported for `fixed` images, for `batch` images; whether its shape is a constant."""
    x = inputs[0]
    if kind == "Reshape" and not isinstance(inputs[1], jax.Array):
        shape = [x.shape[i] if n == 0 else int(n) for i, n in enumerate(inputs[1])]
        rest = int(np.prod([n for n in shape if n > 0]))
        whole = x.size % rest == 0 if -1 in shape else x.size == rest
        if shape and shape[0] > 0 and shape[0] % fixed == 0 and (not whole or (constant and x.shape[0] == batch)):
            return [x, np.asarray([shape[0] // fixed * batch, *shape[1:]])]
    if kind == "Expand" and constant and len(inputs[1]) and int(inputs[1][0]) == fixed and len(inputs[1]) == x.ndim:
        return [x, np.asarray([batch, *inputs[1][1:]])]
    if kind == "Concat" and attributes["axis"] % max(v.ndim for v in inputs):
        first = max(len(v) for v in inputs)
        return [jnp.broadcast_to(v, (first, *v.shape[1:])) if len(v) == fixed else v for v in inputs]
    return inputs


def _attributes(node):
    from onnx import helper

    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {n: v.decode() if isinstance(v, bytes) else v for n, v in found.items()}


def _evaluated(model, node, values):
    """The outputs of a node that does not depend on the images, by ONNX's reference evaluator."""
    import onnx
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {i: np.asarray(values[i]) for i in node.input if i}
    graph = helper.make_graph(
        [node],
        "static",
        [helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for i, a in given.items()],
        [onnx.ValueInfoProto(name=o) for o in node.output],
    )
    found = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, given)
    return [np.asarray(value) for value in found]


def _named(model, weights):
    """{(weight, node's output): name} by the modules that nodes come from: exporters let equal weights be one, which are none."""
    found = {}
    for number, node in enumerate(model.graph.node):
        for slot, value in enumerate(node.input):
            if value not in weights:
                continue
            own = "" if re.search(r"^onnx::|^val_|^[0-9]|:", value) else value.replace("/", ".").strip(".")
            module = _module(node) or own.rpartition(".")[0] or ("" if own else f"{node.op_type.lower()}{number}")
            leaf = own.rpartition(".")[2] if own and node.op_type != "BatchNormalization" else _leaf(node.op_type, slot)
            name = f"{module}.{leaf}".strip(".")
            while name in found.values():
                name += "_"
            found[value, node.output[0]] = name
    return found


def _leaf(kind, slot):
    if kind == "BatchNormalization":
        return ("", "weight", "bias", "running_mean", "running_var")[slot]
    return "bias" if slot == 2 else "weight"


def _module(node):
    """The path of the module that a node comes from, "layer1.0.conv1"; "" where the file does not say it."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = [s for s in re.findall(r"'([^']*)'", entry.value) if s]
            return scopes[-2] if len(scopes) > 1 else ""
    path, last = [], ""
    for piece in node.name.strip("/").split("/")[:-1]:  # "/layer1/layer1.0/conv1/Conv"
        if last and piece.startswith(f"{last}."):
            path.pop()
        path.append(piece)
        last = piece
    return ".".join(path)
