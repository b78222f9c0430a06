"""How far a bundle's answers are from PyTorch's: forward at every place, input gradient, every BatchNorm statistic."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from dci_jax.convert.graph import Graph, evaluate, given
from dci_jax.convert.source import Source
from dci_jax.importers import bundle
from dci_jax.importers.place import sent
from dci_jax.importers.program import BATCH_NORM, INPUT
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import logits, trace

IMAGES = 2


def measure(folder: Path, graph: Graph, source: Source) -> dict[str, float]:
    """Differences of {"forward", "gradient", "statistics"}, relative: the largest over the largest number, of the gradient
    |ours - theirs| / |theirs| (2-norms), because rounding moves a few units across the kink of a ReLU.

    Args:
      folder: of the bundle.
      graph, source: what it was made of.
    """
    network = bundle.load(folder, tuple(place.name for place in graph.places))
    x = np.asarray(dead_leaves(jax.random.key(0), IMAGES, source.shape), np.float32)
    values, mixtures, gradient = _torchs(graph, source, x)
    features, statistics = jax.jit(trace)(network, x)
    found = {"forward": 0.0, "gradient": 0.0, "statistics": 0.0}
    for place, ours in zip(graph.places, features[1:], strict=True):
        _worse(found, "forward", ours, sent(place, values))
    if network.head:
        _worse(found, "forward", jax.jit(logits)(network, features[-1]), values[graph.output])
    tapped = {key: leaves for block in statistics for key, leaves in block.items()}
    for node in graph.nodes:
        key = node.operator == BATCH_NORM and node.arguments[3]["weight"]
        if key in tapped:
            x_in = np.moveaxis(values[node.arguments[0]["value"]], 1, -1).reshape(-1, len(tapped[key]["mean"]))
            _worse(found, "statistics", tapped[key]["mean"], x_in.mean(0))
            _worse(found, "statistics", tapped[key]["var"], x_in.var(0))
    mixture = mixtures[graph.output] if network.head else sent(graph.places[-1], mixtures)
    ours = np.asarray(jax.jit(jax.grad(_mixed))(x, network, mixture))
    found["gradient"] = float(np.linalg.norm(ours - gradient) / max(np.linalg.norm(gradient), 1e-30))
    return found


def _torchs(graph, source, x):
    """(values by name [B, ...], random weights of the last ones by name, the gradient of their sum [B, H, W, C])."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (source.mean, source.std))
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))).requires_grad_()
    known = {node: tensor for node, (_, tensor) in given(source.program).items()}
    known[graph.values[INPUT]] = (images - mean) / std
    for node in source.program.graph.nodes:
        if node.op == "call_function" and "val" in node.meta:
            known[node] = evaluate(node, known)
    values = {name: known[node] for name, node in graph.values.items()}
    rng, last = np.random.default_rng(0), [graph.output] if graph.classes else graph.places[-1].values
    weights = {name: np.float32(rng.normal(size=values[name].shape)) for name in last}
    mixed = sum((values[name] * torch.from_numpy(w)).sum() for name, w in weights.items())
    (gradient,) = torch.autograd.grad(mixed, images)
    values = {name: v.detach().numpy() for name, v in values.items() if isinstance(v, torch.Tensor)}
    return values, weights, gradient.movedim(1, -1).numpy()


def _worse(found, name, ours, theirs):
    theirs = np.asarray(theirs)
    difference = np.max(np.abs(np.asarray(ours) - theirs)) / max(np.max(np.abs(theirs)), 1e-30)
    found[name] = max(found[name], float(difference))


def _mixed(x, network, mixture):
    y = trace(network, x)[0][-1]
    return jnp.sum((logits(network, y) if network.head else y) * mixture)
