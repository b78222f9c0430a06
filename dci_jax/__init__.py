"""Divide-and-Conquer Inversion in JAX: reconstruct a private input from its features.

    network = dci_jax.load_network("cifar_resnet20")
    prior = dci_jax.fit_prior(network, key=jax.random.key(0))
    chain = dci_jax.solve_chain(network, "layer1.2", prior, key=jax.random.key(1), num_images=256)
    images = chain(features)

Only the names below are public; everything else may change between versions. Each is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.3.0"

_PUBLIC = {
    "Attack": "attacks.registry",
    "Block": "network",
    "Chain": "dci.chain",
    "Defense": "defenses.registry",
    "InputError": "errors",
    "Network": "network",
    "Prior": "inputs.mixture",
    "Report": "api.auditing",
    "audit": "api.auditing",
    "features_at": "network",
    "fit_prior": "api.priors",
    "from_jax": "importers.jax_function",
    "from_onnx": "importers.onnx_file",
    "gauss_newton": "api.optimization",
    "leakage_scores": "api.networks",
    "learn_defense": "api.chains",
    "load_chain": "dci.chain",
    "load_network": "api.networks",
    "optimize": "api.optimization",
    "sequential": "pieces",
    "solve_chain": "api.chains",
    "split_names": "network",
    "split_points": "evaluation.split_table",
    "synthesize": "api.priors",
    "train_chain": "api.chains",
    "with_side": "network",
    "with_synthetic": "api.priors",
}
_MODULES = ("attacks", "defenses", "metrics", "models")

__all__ = [*_PUBLIC, *_MODULES]

if TYPE_CHECKING:
    from dci_jax import attacks, defenses, metrics, models
    from dci_jax.api.auditing import Report, audit
    from dci_jax.api.chains import learn_defense, solve_chain, train_chain
    from dci_jax.api.networks import leakage_scores, load_network
    from dci_jax.api.optimization import gauss_newton, optimize
    from dci_jax.api.priors import fit_prior, synthesize, with_synthetic
    from dci_jax.attacks.registry import Attack
    from dci_jax.dci.chain import Chain, load_chain
    from dci_jax.defenses.registry import Defense
    from dci_jax.errors import InputError
    from dci_jax.evaluation.split_table import split_points
    from dci_jax.importers.jax_function import from_jax
    from dci_jax.importers.onnx_file import from_onnx
    from dci_jax.inputs.mixture import Prior
    from dci_jax.network import Block, Network, features_at, split_names, with_side
    from dci_jax.pieces import sequential


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"dci_jax.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dci_jax' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"dci_jax.{_PUBLIC[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
