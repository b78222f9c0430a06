"""Every attack, one row each: the only place that knows what an attack is called, needs and can read back.

A new attack is one file beside this one, with `fit` and perhaps `check`, and one row here. One outside this package is an
`Attack` that a config names as "module.path:object" (docs/own_attack.py).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dci_jax import import_from_string
from dci_jax.attacks import deep_image_prior, deepinversion, gauss_newton, inverse_network, rmle
from dci_jax.dci import solve_chain
from dci_jax.dci.trained import train_chain
from dci_jax.errors import InputError
from dci_jax.inputs.procedural import GENERATORS


def no_demands(network, splits, shape, **settings) -> None:
    """The `check` of an attack that can do whatever its section's ranges allow."""


@dataclass(frozen=True)
class Attack:
    """What is known of an attack.

    Attributes:
      fit: (network, inputs, splits, key, folder, **settings) -> {split: function from features [B, ...] to inputs
        [B, ...]}. Nothing of it holds a private image, so data-free is what an attack can be.
      section: of the config, whose fields but `splits` are the settings; "" for an attack without settings.
      label: in a report.
      color: in its charts.
      learns: from `Prior`: "NAME@dead_leaves" learns from that source alone, and an oracle can be one.
      starts_from: another attack, whose readers are given to `fit` as `start`.
      codes: it can read back a generator's codes, too.
      adapts: its `fit` takes `channel`, too, the defense that its adversary knows: "adapted_NAME" is that attack.
      adapted: it is one of those, fitted for each split and defense anew.
      check: (network, splits, shape of what it learns from, **settings) -> raises InputError where it could not work.
    """

    fit: Callable[..., dict[str, Callable]]
    section: str = ""
    label: str = ""
    color: str = "#334155"
    learns: bool = False
    starts_from: str = ""
    codes: bool = True
    adapts: bool = False
    adapted: bool = False
    check: Callable[..., None] = no_demands


ATTACKS = {
    "dci": Attack(
        solve_chain.dci,
        "dci",
        "DCI, one forward pass",
        "#c2410c",
        learns=True,
        adapts=True,
        check=solve_chain.check,
    ),
    "dci_shared": Attack(
        solve_chain.dci_shared,
        "dci",
        "DCI, one chain for all splits, one forward pass",
        "#be123c",
        learns=True,
        check=solve_chain.check_shared,
    ),
    "dci_trained": Attack(
        train_chain.dci_trained,
        "dci_trained",
        "DCI with trained inverters, one forward pass",
        "#9f1239",
        learns=True,
        check=train_chain.check,
    ),
    "dci+refine": Attack(
        rmle.rmle,
        "refine",
        "DCI, then refined white-box",
        "#7c3aed",
        starts_from="dci",
        adapts=True,
        check=rmle.check,
    ),
    "dci_trained+refine": Attack(
        rmle.rmle,
        "refine",
        "DCI with trained inverters, then refined white-box",
        "#4338ca",
        starts_from="dci_trained",
        check=rmle.check,
    ),
    "dci+gauss_newton": Attack(
        gauss_newton.gauss_newton,
        "gauss_newton",
        "DCI, then Gauss-Newton",
        "#0f766e",
        starts_from="dci",
        adapts=True,
        check=gauss_newton.check,
    ),
    "dci_trained+gauss_newton": Attack(
        gauss_newton.gauss_newton,
        "gauss_newton",
        "DCI with trained inverters, then Gauss-Newton",
        "#115e59",
        starts_from="dci_trained",
        check=gauss_newton.check,
    ),
    "inverse_network": Attack(
        inverse_network.inverse_network,
        "inverse_network",
        "inverse network (black box)",
        "#0369a1",
        learns=True,
        adapts=True,
        check=inverse_network.check,
    ),
    "rmle": Attack(rmle.rmle, "rmle", "rMLE from a blank image", "#64748b", adapts=True, check=rmle.check),
    "gauss_newton": Attack(
        gauss_newton.gauss_newton,
        "gauss_newton",
        "Gauss-Newton from the prior's mean",
        "#92400e",
        check=gauss_newton.check,
    ),
    "deepinversion": Attack(
        deepinversion.deepinversion,
        "deepinversion",
        "rMLE with BatchNorm statistics as its prior",
        "#a16207",
        codes=False,
        check=deepinversion.check,
    ),
    "deep_image_prior": Attack(
        deep_image_prior.deep_image_prior,
        "deep_image_prior",
        "deep image prior",
        "#be185d",
        codes=False,
        check=deep_image_prior.check,
    ),
}

ORACLE = "oracle"
ADAPTED = "adapted_"


def find(name: str, oracle: str = "dci") -> Attack:
    """The row of an attack by the name that a config or a report gives it.

    Args:
      name: a key of `ATTACKS`; one that learns may have its source behind it, "dci@dead_leaves"; one that adapts may
        be "adapted_dci"; or "oracle".
      oracle: the attack that the oracle is, `config.oracle.attack`.

    Raises:
      InputError: there is no such attack, or no such source.
    """
    if name == ORACLE:
        if oracle not in ATTACKS or not ATTACKS[oracle].learns:
            learning = ", ".join(key for key, attack in ATTACKS.items() if attack.learns)
            raise InputError(
                f"oracle.attack is {oracle!r}, which is none that learns from images; choose from: {learning}."
            )
        return replace(ATTACKS[oracle], label="oracle: learned from real images", color="#15803d")
    if name.startswith(ADAPTED):
        known = name.removeprefix(ADAPTED)
        row = None if known == ORACLE or known.startswith(ADAPTED) else find(known)
        if row is None or not row.adapts:
            able = ", ".join(ADAPTED + key for key, attack in ATTACKS.items() if attack.adapts)
            raise InputError(f"The attack {name!r} cannot adapt to a defense; choose from: {able}.")
        start = row.starts_from and ADAPTED + row.starts_from
        return replace(row, label=f"{row.label}, adapted to the defense", adapted=True, codes=False, starts_from=start)
    if ":" in name:
        return _own(name)
    base, at, source = name.partition("@")
    if base not in ATTACKS or (at and not ATTACKS[base].learns):
        raise InputError(f"No attack is called {name!r}; choose from: {', '.join(ATTACKS)}.")
    if at and source not in GENERATORS:
        raise InputError(f"The attack {name!r} cannot learn from {source!r}; choose from: {', '.join(GENERATORS)}.")
    return replace(ATTACKS[base], label=f"{ATTACKS[base].label}, from {source} alone") if at else ATTACKS[base]


def _own(name: str) -> Attack:
    """An attack from outside this package, whose `fit` takes what `experiment` gives it."""
    row = import_from_string.row(name, Attack)
    extra = {"channel": None} if row.adapts else {}
    extra |= {"start": None} if row.starts_from else {}
    try:
        inspect.signature(row.fit).bind("network", "prior", "splits", "key", "folder", **extra)
    except TypeError as error:
        raise InputError(
            f"{name}: fit{inspect.signature(row.fit)} does not take (network, prior, splits, key, folder"
            f"{''.join(f', *, {n}' for n in extra)}): {error}; correct it."
        ) from error
    return row


def names(config) -> tuple[str, ...]:
    """The rows of a config's report: its attacks, and "oracle" where real images are given for it."""
    return (*config.attacks, *((ORACLE,) if config.oracle.images else ()))


def settings(config, attack: Attack, splits: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(split points of the attack, keyword arguments of its `fit`).

    Args:
      config: as in configs/default.py.
      attack: its row.
      splits: of the run. An attack whose section names none has all of them, or `num_splits` of them, evenly spaced.
    """
    if not attack.section:
        return splits, {}
    section = dict(config[attack.section].items())
    own, count = tuple(section.pop("splits", ())), section.pop("num_splits", 0)
    if own or not 0 < count < len(splits):
        return own or splits, section
    return tuple(splits[len(splits) * (2 * i + 1) // (2 * count)] for i in range(count)), section
