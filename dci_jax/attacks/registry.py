"""Every attack, one row each: the only place that knows what an attack needs and can reconstruct.

A new attack is one file beside this one, with `fit` and perhaps `check`, one row here, and a label in
`report/labels.py`. A custom attack is an `Attack` that a config names as "module.path:object" (docs/own_attack.py).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dci_jax import import_from_string
from dci_jax.attacks import deep_image_prior, deepinversion, gauss_newton, inverse_network, naming, refine, rmle, unet
from dci_jax.attacks.naming import ADAPTED, ORACLE
from dci_jax.dci import solve_chain
from dci_jax.dci.trained import train_chain
from dci_jax.errors import InputError
from dci_jax.inputs.procedural import GENERATORS


def no_demands(network, splits, shape, **settings) -> None:
    """The `check` of an attack that supports everything its section's ranges allow."""


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
      fit: `(network, inputs, splits, key, folder, **settings)` -> {split: function from features [B, ...] to inputs
        [B, ...]}. No argument holds a private image, so an attack can be data-free.
      name: its name in a config, which determines `section` and `starts_from`, see `naming`.
      learns: whether it learns from `Prior`; "NAME@dead_leaves" then learns from that source alone, and it can be an oracle.
      latents: whether it can also reconstruct a generator's latents.
      adapts: whether its `fit` also takes `channel`, the defense that its adversary knows: "adapted_NAME" is that attack.
      adapted: whether it is one of those, fitted anew for each split and defense.
      check: `(network, splits, shape of what it learns from, **settings)` -> raises InputError if it could not work.
    """

    fit: Callable[..., dict[str, Callable]]
    name: str = ""
    learns: bool = False
    latents: bool = True
    adapts: bool = False
    adapted: bool = False
    check: Callable[..., None] = no_demands

    @property
    def section(self) -> str:
        """The section of the config whose fields, except `splits`, are the settings."""
        return naming.section(self.name)

    @property
    def starts_from(self) -> str:
        """Another attack, whose reconstruct functions are passed to `fit` as `start`; "" if there is none."""
        return naming.starts_from(self.name)


_ROWS = (
    Attack(solve_chain.dci, "dci", learns=True, adapts=True, check=solve_chain.check),
    Attack(solve_chain.dci_shared, "dci_shared", learns=True, check=solve_chain.check_shared),
    Attack(train_chain.dci_trained, "dci_trained", learns=True, check=train_chain.check),
    Attack(refine.refine, "dci+refine", adapts=True, check=refine.check),
    Attack(refine.refine, "dci_trained+refine", check=refine.check),
    Attack(unet.unet, "dci+unet", latents=False, adapts=True, check=unet.check),
    Attack(gauss_newton.gauss_newton, "dci+gauss_newton", adapts=True, check=gauss_newton.check),
    Attack(gauss_newton.gauss_newton, "dci_trained+gauss_newton", check=gauss_newton.check),
    Attack(inverse_network.inverse_network, "inverse_network", learns=True, adapts=True),
    Attack(rmle.rmle, "rmle", adapts=True, check=rmle.check),
    Attack(gauss_newton.gauss_newton, "gauss_newton", check=gauss_newton.check),
    Attack(deepinversion.deepinversion, "deepinversion", latents=False, check=deepinversion.check),
    Attack(deep_image_prior.deep_image_prior, "deep_image_prior", latents=False, check=deep_image_prior.check),
)
ATTACKS = {row.name: row for row in _ROWS}


def find(name: str, oracle: str = "dci") -> Attack:
    """The row of an attack, by its name in a config.

    Args:
      name: a key of `ATTACKS`; one that learns may be followed by its source, "dci@dead_leaves"; one that adapts may
        be "adapted_dci"; or "oracle".
      oracle: the attack that the oracle uses, `config.oracle.attack`.

    Raises:
      InputError: there is no such attack, or no such source.
    """
    if name == ORACLE:
        return ATTACKS[oracle]
    if name.startswith(ADAPTED):
        known = name.removeprefix(ADAPTED)
        row = None if known == ORACLE or known.startswith(ADAPTED) else find(known)
        if row is None or not row.adapts:
            able = ", ".join(ADAPTED + key for key, attack in ATTACKS.items() if attack.adapts)
            raise InputError(f"The attack {name!r} cannot adapt to a defense; choose from: {able}.")
        return replace(row, name=name, adapted=True, latents=False)
    if ":" in name:
        return _own(name)
    base, at, source = name.partition("@")
    if base not in ATTACKS or (at and not ATTACKS[base].learns):
        raise InputError(f"No attack is called {name!r}; choose from: {', '.join(ATTACKS)}.")
    if at and source not in GENERATORS:
        raise InputError(f"The attack {name!r} cannot learn from {source!r}; choose from: {', '.join(GENERATORS)}.")
    return ATTACKS[base]


def _own(name: str) -> Attack:
    """A custom attack, whose `fit` has to accept what `experiment` passes."""
    row = import_from_string.row(name, Attack)
    extra = {"channel": None} if row.adapts else {}
    extra |= {"start": None} if row.starts_from else {}
    if not callable(row.fit):
        raise InputError(f"{name}: fit is {row.fit!r}; give a function (network, prior, splits, key, folder).")
    try:
        inspect.signature(row.fit).bind("network", "prior", "splits", "key", "folder", **extra)
    except TypeError as error:
        raise InputError(
            f"{name}: fit{inspect.signature(row.fit)} does not take (network, prior, splits, key, folder"
            f"{''.join(f', *, {n}' for n in extra)}): {error}; correct it."
        ) from error
    return replace(row, name=name)


def names(config) -> tuple[str, ...]:
    """The rows of a config's report: its attacks, and "oracle" if real images are given for it."""
    return (*config.attacks, *((ORACLE,) if config.oracle.images else ()))


def settings(config, attack: Attack, splits: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(split points of the attack, keyword arguments of its `fit`).

    Args:
      config: as in configs/default.py.
      attack: its row.
      splits: split points of the run. An attack whose section names none uses all, or `num_splits` of them, evenly spaced.
    """
    if not attack.section:
        return splits, {}
    section = dict(config[attack.section].items())
    own, count = tuple(section.pop("splits", ())), section.pop("num_splits", 0)
    if own or not 0 < count < len(splits):
        return own or splits, section
    return tuple(splits[len(splits) * (2 * i + 1) // (2 * count)] for i in range(count)), section
