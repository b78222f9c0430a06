"""A converted network, read without PyTorch: a folder with bundle.json, the graph, and weights.safetensors or network.onnx.

`python -m dci_jax.convert` writes it. The files are data: nothing in them is executed but named operators.
"""

import functools
import hashlib
import json
import logging
import os
from importlib import resources
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jsonschema
import numpy as np
import safetensors.numpy

from dci_jax.checkpoints import read
from dci_jax.errors import InputError
from dci_jax.importers import onnx_file
from dci_jax.importers.aten import OPERATORS
from dci_jax.importers.place import Place, from_data, together
from dci_jax.importers.program import BATCH_NORM, INPUT, Node, blocks, values_of, weights_of
from dci_jax.network import Network, feature_shapes

log = logging.getLogger("dci_jax")

FORMAT = 1  # that of bundle.schema.json
MANIFEST, WEIGHTS, ONNX = "bundle.json", "weights.safetensors", "network.onnx"


def load(folder: str | Path, splits: tuple[str, ...] = (), sha256: str = "") -> Network:
    """The network in a bundle.

    Args:
      folder: of the bundle.
      splits: split points asked for by name, beside the manifest's default ones: any place where one tensor alone is
        alive.
      sha256: of its bundle.json, which names that of the weights; empty: only what the manifest says of itself is
        checked.

    Raises:
      InputError: there is none, it is damaged or of another version, something is missing, or it has no such split
        point.
    """
    if not str(folder):
        raise InputError("A bundle is a folder; give its path as the weights (python -m dci_jax.convert makes one).")
    folder = Path(folder)
    found = next((file for file in (ONNX, WEIGHTS) if os.path.isfile(folder / file)), WEIGHTS)
    for file in (MANIFEST, found):
        if not os.path.isfile(folder / file):
            raise InputError(
                f"{str(folder)!r} is not a bundle (it has no {file}); make one by python -m dci_jax.convert and give its folder as "
                "the weights."
            )
    if sha256:
        read.check_sha256(folder / MANIFEST, sha256, "convert the network again")
    manifest = checked(folder / MANIFEST)
    if manifest.get("random"):
        log.warning("%s has random weights: what is found says nothing of a trained %s", folder, manifest["name"])
    try:
        read.check_sha256(folder / found, manifest["weights"], "convert the network again")
        if "onnx" in manifest:
            said = {key: tuple(manifest[key]) for key in ("mean", "std")} | {
                key: manifest[key] for key in ("name", "crop")
            }
            return onnx_file.from_onnx(folder / ONNX, size=tuple(manifest["shape"][:2]), splits=splits, **said)
        nodes = tuple(Node(*node) for node in manifest["nodes"])
        places = [from_data(place) for place in manifest["places"]]
        _check_graph(folder / MANIFEST, nodes, places, manifest["output"])
        weights = _weights(folder / WEIGHTS, nodes)
        chosen = _chosen(folder, places, splits)
        begin, last = Place("", INPUT, "image"), Place("", manifest["output"], "vector")
        tensors = tuple((int(channels), int(factor)) for channels, factor in manifest.get("tensors", ()))
        ends = [begin, *chosen] if tensors else [begin, *chosen, last]
        found = blocks(nodes, ends, weights, [place for place in places if place not in chosen])
        network = Network(
            (*found[:-1], found[-1].replace(tensors=tensors)) if tensors else found[:-1],
            found[-1] if manifest["classes"] else None,
            manifest["name"],
            tuple(manifest["shape"]),
            tuple(manifest["mean"]),
            tuple(manifest["std"]),
            manifest["crop"],
        )
        if any(place.parts for place in chosen):
            _check_tensors(folder / MANIFEST, network)
        return network
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder / MANIFEST} lacks something ({error!r}); convert the network again.") from error


def digest(manifest: dict[str, Any]) -> str:
    """What the manifest's "sha256" has to be: of all else in it."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@functools.cache
def schema() -> jsonschema.protocols.Validator:
    """What a manifest of `FORMAT` has to be: bundle.schema.json."""
    text = (resources.files("dci_jax.importers") / "bundle.schema.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def checked(file: Path) -> dict[str, Any]:
    """The manifest in a file.

    Raises:
      InputError: it is damaged, of another version, or not as the schema says.
    """
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}); convert the network again.") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        raise InputError(
            f"{file} has format {version!r}, and this version of dci_jax reads {FORMAT}; convert the network again."
        )
    if manifest.get("sha256") != digest(manifest):
        raise InputError(f"{file} is damaged or was changed (its sha256 differs); convert the network again.")
    if wrong := jsonschema.exceptions.best_match(schema().iter_errors(manifest)):
        where = "".join(f"[{step!r}]" for step in wrong.absolute_path) or "it"
        said = " ".join(wrong.message.split())
        raise InputError(f"{file} is no manifest of format {FORMAT}: {where}: {said[:200]}; convert the network again.")
    return manifest


def _check_graph(file, nodes, places, output):
    """Raise InputError where a graph has unknown operators, names twice, or values before they are made."""
    unknown = {node.operator for node in nodes} - {*OPERATORS, BATCH_NORM}
    if unknown:
        raise InputError(f"{file} has operators that this version does not ({', '.join(sorted(unknown))}).")
    order = {INPUT: 0}
    for node in nodes:
        missing = [value for value in values_of(node) if value not in order]
        if missing or node.name in order:
            why = f"takes {missing[0]!r} before it is made" if missing else "is there twice"
            raise InputError(f"{file}: the node {node.name!r} {why}; convert the network again.")
        order[node.name] = len(order)
    names = [place.name for place in places]
    found = [order.get(place.value, 0) for place in places]
    parts = {value for place in places for value in place.values}
    several = [place for place in places if place.parts or place.layout == "several"]
    wrong = [place for place in several if not place.parts or together(place.parts, place.value).grid != place.grid]
    if wrong or parts - order.keys():
        raise InputError(f"{file}: the tensors of a split point are not as they say; convert the network again.")
    if output not in order or 0 in found or sorted(found) != found or len({*names}) < len(names):
        raise InputError(
            f"{file}: its split points, or its output {output!r}, are no nodes of the graph, each once and in its order; convert the "
            "network again."
        )


def _check_tensors(file, network):
    """Raise InputError where the tensors of a place are not what they are said to be."""
    try:
        feature_shapes(network)
    except InputError as error:
        raise InputError(
            f"{file}: the tensors of a split point are not as they say ({error}); convert the network again."
        ) from None


def _weights(file, nodes):
    """Those that the nodes name; float32 and int32."""
    try:
        tensors = safetensors.numpy.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is damaged ({error}); convert the network again.") from error
    needed = {key for node in nodes for key in weights_of(node)}
    missing = sorted(needed - tensors.keys())
    if missing:
        raise InputError(f"{file} lacks {missing[0]!r} ({len(missing)} in all); convert the network again.")
    infinite = [k for k in needed if tensors[k].dtype.kind == "f" and not np.isfinite(tensors[k]).all()]
    if infinite:
        raise InputError(
            f"{file}: {min(infinite)!r} has numbers that are not finite; convert a network whose training did not diverge."
        )
    return {key: jnp.asarray(tensors[key], jnp.float32 if tensors[key].dtype.kind == "f" else None) for key in needed}


def _chosen(folder, places, splits):
    names = {place.name for place in places}
    for name in splits:
        if name not in names:
            default = ", ".join(place.name for place in places if place.default)
            raise InputError(
                f"{folder} has no split point {name!r}; choose from: {default}, or from all {len(names)} in its {MANIFEST}."
            )
    return [place for place in places if place.default or place.name in splits]
