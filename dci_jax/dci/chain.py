"""A chain of solved inverters, read from its deepest one to the image: R_1(...R_k(f_k))."""

import jax

from dci_jax.dci import inverter
from dci_jax.dci.inverter import Geometry
from dci_jax.network import Network

Array = jax.Array


def invert(geometries: tuple[Geometry, ...], chain: tuple[tuple, ...], network: Network, features: Array) -> Array:
    """`R_1(...R_k(f_k))`, the deepest inverter first in `geometries` and `chain`."""
    return unwind(geometries, chain, network, features)[0]


def unwind(
    geometries: tuple[Geometry, ...], chain: tuple[tuple, ...], network: Network, features: Array
) -> tuple[Array, ...]:
    """All estimates on the way of `invert`: (f_0, ..., f_k), the last of which is `features` itself."""
    found = [features]
    for g, maps in zip(geometries, chain, strict=True):
        found.insert(0, undo(g, maps, network, features, found[0]))
    return tuple(found)


def undo(g: Geometry, maps: tuple[Array, ...], network: Network, seen: Array, f: Array) -> Array:
    """One inverter: features behind its block -> features before it; `seen` are those that the chain was given."""
    x = inverter.first(g, maps[0], f)
    for kernel in maps[1:]:
        x = inverter.corrected(g, kernel, network, seen, f, x)
    return x
