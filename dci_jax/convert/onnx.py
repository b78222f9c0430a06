"""An ONNX file as a bundle: the file itself, and what it does not say; compared with ONNX Runtime. No PyTorch."""

import argparse
import json
import logging
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from dci_jax.checkpoints import read as checksums
from dci_jax.errors import InputError, reason
from dci_jax.importers import bundle, onnx_file
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Network, logits, run, split_names
from dci_jax.runtime.files import replacing
from dci_jax.tensors import join

CLOSE = 1e-4  # of the largest number

log = logging.getLogger("dci_jax")


def convert(settings: argparse.Namespace, draft: Path) -> str:
    """Write the bundle into the folder `draft`, and return what was made, for the terminal.

    Raises:
      InputError: see `onnx_file.from_onnx`; an option that an ONNX file cannot follow; its answers are not those of ONNX.
    """
    for name in ("weights", "random", "classes", "all_splits"):
        if getattr(settings, name):
            raise InputError(f"--{name} is for PyTorch networks, but {settings.network} is an ONNX file; leave it out.")
    model = onnx_file.read(settings.network)
    size = (2 * tuple(settings.size))[:2] or (0, 0)
    shape = onnx_file.image_shape(model, size, settings.network)
    if settings.channels not in (0, shape[2]):
        raise InputError(
            f"--channels is {settings.channels}, but {settings.network} takes images of {shape[2]}; leave it out."
        )
    if not settings.mean and not settings.std:
        log.warning("no --mean and --std: images go into %s as they are, in [0, 1]", settings.network)
    manifest = {
        "format": bundle.FORMAT,
        "name": Path(settings.network).stem,
        "source": settings.network,
        "made_with": {name: metadata.version(name) for name in ("dci_jax", "onnx")},
        "onnx": bundle.ONNX,
        "shape": shape,
        "mean": settings.mean or (0.0,),
        "std": settings.std or (1.0,),
        "crop": settings.crop or 1.0,
    }
    with replacing(draft / bundle.ONNX, "wb") as stream:
        stream.write(model.SerializeToString())
    manifest["weights"] = checksums.sha256(draft / bundle.ONNX)
    manifest["sha256"] = bundle.digest(manifest)
    with replacing(draft / bundle.MANIFEST, "w") as stream:
        json.dump(manifest, stream)
    network = bundle.load(draft)
    log.info("comparing with ONNX Runtime")
    error = difference(network, model, settings.network)
    if not error < CLOSE:
        raise InputError(
            f"{settings.network} was read, but its answers differ from ONNX Runtime's by {error:.1g} of the largest number; it is not kept."
        )
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    names = split_names(network)
    return "\n".join(
        [
            f"{settings.out}: {network.name}, {len(model.graph.node)} operators, images of {'x'.join(map(str, shape))}",
            f"  {len(names)} split points: {', '.join(names)}",
            f"  {norms} BatchNorm layers, whose statistics synthesis can match"
            + ("" if norms else ": labels and procedural images must do"),
            f"  largest difference from ONNX Runtime, relative: {error:.1e}",
        ]
    )


def difference(network: Network, model, path: str) -> float:
    """The largest difference of the network's answer from ONNX Runtime's, over the largest number.

    Not ONNX's own reference evaluator: before opset 14 its BatchNormalization takes the batch's statistics.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"Comparing with ONNX Runtime needs it ({error}): pip install 'dci_jax[onnx]'.") from error
    given = {i.name for i in model.graph.initializer}
    (start,) = (i for i in model.graph.input if i.name not in given)
    images = start.type.tensor_type.shape.dim[0].dim_value or 2
    x = np.asarray(dead_leaves(jax.random.key(0), images, network.input_shape))
    normalized = (x - np.float32(network.mean)) / np.float32(network.std)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers = session.run(None, {start.name: np.ascontiguousarray(np.moveaxis(normalized, 3, 1))})
    except Exception as error:  # of every kind, by operator
        raise InputError(f"{path} cannot be run by ONNX Runtime ({reason(error)}), so it cannot be checked.") from error
    ours = jax.jit(lambda x: logits(network, run(network, x)) if network.head else run(network, x))(x)
    axes = 2 if network.head else 4
    if network.blocks[-1].tensors:
        theirs = np.asarray(join([np.moveaxis(a, 1, -1) for a in answers if a.ndim == axes]))
    else:
        theirs = next(a for a in answers if a.ndim == axes)
    ours = np.moveaxis(ours, 3, 1) if ours.ndim == 4 and ours.shape != theirs.shape else ours
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
