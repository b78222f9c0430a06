"""Fit an attack by the name that a config gives it: what each is given of what the adversary holds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dci_jax.attacks import ATTACKS
from dci_jax.inputs import Inputs
from dci_jax.learning import section_of, settings
from dci_jax.setting import Setting


def arm(
    config: ConfigDict,
    name: str,
    setting: Setting,
    inputs: Inputs,
    readers: dict[str, dict[str, Callable]],
    key: jax.Array,
    folder: Path,
) -> dict[str, Callable]:
    """Fit the attack called `name`; returns split point -> function from features to images.

    "dci+refine" is rMLE started from what DCI read back, "dci+gauss_newton" Gauss-Newton from there; "oracle" is an
    attack given real images; "inverse_network@white_noise" is one that learns from that source alone.
    """
    network, splits = setting.device, setting.splits
    if name == "oracle":
        inputs = Inputs(setting.oracle.pixels, (("bank", 1.0),), inputs.shape)
        base = config.oracle.attack
        section, attack, more = section_of(config, base), ATTACKS[base], {}
    elif name.endswith("+refine"):
        section, attack = config.refine, ATTACKS["rmle"]
        more = {"start": readers[name.partition("+")[0]]}
    elif name.endswith("+gauss_newton"):
        section, attack = config.gauss_newton, ATTACKS["gauss_newton"]
        more = {"start": readers[name.partition("+")[0]]}
    else:
        base, _, source = name.partition("@")
        section, attack, more = section_of(config, base), ATTACKS[base], {}
        inputs = replace(inputs, shares=((source, 1.0),)) if source else inputs
    splits = tuple(section.get("splits", ())) or splits
    return attack(network, inputs, splits, key, folder, **settings(section), **more)
