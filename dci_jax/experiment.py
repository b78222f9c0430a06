"""The story of a run in four stages, each of which resumes: synthesize, attack, evaluate, report."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dci_jax import data, models, report
from dci_jax.attacks import ATTACKS
from dci_jax.blocks import Network, split_index, split_names
from dci_jax.defenses import DEFENSES
from dci_jax.errors import InputError
from dci_jax.evaluate import ANY_SPLIT, costs, evaluate, floor, lines, write
from dci_jax.inputs import Inputs, mixture
from dci_jax.losses import DISTANCES
from dci_jax.procedural import GENERATORS
from dci_jax.synthesis import synthesize
from dci_jax.workdir import keep_originals, timing

log = logging.getLogger("dci_jax")

ROWS = (*ATTACKS, "dci+refine", "oracle")  # all that can stand in a report's column "attack"


@dataclass(frozen=True)
class Setting:
    """What a checked config names, loaded: nothing after this fails for what the user gave."""

    network: Network
    private: data.Images
    oracle: data.Images | None
    splits: tuple[str, ...]


def run(config: ConfigDict, setting: Setting, workdir: Path) -> None:
    """Audit the target and leave everything in `workdir`; the same call resumes.

    Args:
      config: as in configs/default.py.
      setting: `check(config)`.
      workdir: as claimed by `claim`.
    """
    network, private, splits = setting.network, setting.private, setting.splits
    evaluation = workdir / "evaluation"
    keep_originals(evaluation / "originals.npz", private.pixels, private.names, private.skipped)
    for reason in private.skipped:
        log.warning("skipped damaged image %s", reason)
    key_synthesis, key_attack, key_defense = jax.random.split(jax.random.key(config.seed), 3)
    timed = functools.partial(timing, workdir)

    with timed("synthesize"):
        made = synthesize(network, key_synthesis, workdir / "synthesis", **config.synthesis)
    inputs = mixture(jnp.asarray(made), config.inputs.to_dict())

    rows, row = [], {"target": network.name, "seed": config.seed}
    for name, guesses in floors(private.pixels, config.seed).items():
        result = floor(network, private.pixels, guesses, evaluation / f"{name}.npz", config.batch)
        rows += lines(result, private.names, split=ANY_SPLIT, attack=name, defense="none", **row)

    readers = {}
    for name in attack_names(config):
        with timed(f"attack {name}"):
            # By name, so that an attack's numbers do not depend on which others run.
            key = jax.random.fold_in(key_attack, ROWS.index(name))
            folder = workdir / "attacks" / name
            readers[name] = arm(config, name, setting, inputs, readers, key, folder)
        with timed(f"evaluate {name}"):
            for split, reconstruct in readers[name].items():
                for kind, strength in config.defenses:
                    label = kind if kind == "none" else f"{kind} {strength:g}"
                    result = evaluate(
                        network,
                        private.pixels,
                        reconstruct,
                        split,
                        (kind, strength),
                        key_defense,
                        evaluation / name / f"{split} {label}.npz",
                        config.batch,
                    )
                    cell = dict(split=split, attack=name, defense=label, **row)
                    rows += lines(result, private.names, **cell)
                    mean = float(np.mean(result["psnr"]))
                    log.info("%s after %s, defense %s: %.2f dB", name, split, label, mean)

    write(rows, costs(network, splits), workdir)
    with timed("report"):
        report.write(workdir)
    log.info("the report is %s", workdir / "report" / "index.html")


def attack_names(config: ConfigDict) -> tuple[str, ...]:
    """The rows of the report: the attacks, and "oracle" where real images are given for it."""
    return tuple(config.attacks) + (("oracle",) if config.oracle.images else ())


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

    "dci+refine" is rMLE started from what DCI read back; "oracle" is an attack given real images.
    """
    network, splits = setting.network, setting.splits
    if name == "oracle":
        inputs = mixture(jnp.asarray(setting.oracle.pixels), {"bank": 1.0})
        section, attack, more = config[config.oracle.attack], ATTACKS[config.oracle.attack], {}
    elif name == "dci+refine":
        section, attack, more = config.refine, ATTACKS["rmle"], {"start": readers["dci"]}
    else:
        section, attack, more = config[name], ATTACKS[name], {}
    splits = tuple(section.get("splits", ())) or splits
    return attack(network, inputs, splits, key, folder, **settings(section), **more)


def settings(section: ConfigDict) -> dict:
    """A config section as the keyword arguments of one call."""
    return {name: value for name, value in section.items() if name != "splits"}


def floors(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What needs no features at all: the mean of the private images, and another one at random."""
    mean = np.broadcast_to(pixels.mean(0).round().astype(np.uint8), pixels.shape)
    step = np.random.default_rng(seed).integers(1, max(len(pixels), 2))
    return {"mean_image": mean, "random_image": np.roll(pixels, step, 0)}


def check(config: ConfigDict) -> Setting:
    """Load what the config names, before any work.

    Raises:
      InputError: a sentence with the value and the cure.
    """
    for name in config.attacks:
        if name not in ROWS[:-1]:
            raise InputError(f"No attack is called {name!r}; choose from: {', '.join(ROWS[:-1])}.")
    order = list(config.attacks)
    if "dci+refine" in order and "dci" not in order[: order.index("dci+refine")]:
        raise InputError(
            "The attack 'dci+refine' starts from 'dci'; name 'dci' before it in attacks."
        )
    if config.oracle.attack not in ATTACKS:
        raise InputError(
            f"oracle.attack is {config.oracle.attack!r}; choose from: {', '.join(ATTACKS)}."
        )
    for kind, _ in config.defenses:
        if kind not in DEFENSES:
            raise InputError(f"No defense is called {kind!r}; choose from: {', '.join(DEFENSES)}.")
    if config.dci.distance not in DISTANCES:
        raise InputError(
            f"dci.distance is {config.dci.distance!r}; choose from: {', '.join(DISTANCES)}."
        )
    if config.synthesis.start not in GENERATORS:
        raise InputError(
            f"synthesis.start is {config.synthesis.start!r}; choose from: {', '.join(GENERATORS)}."
        )
    for field in ("batch", "synthesis.batch", "synthesis.steps", "refine.steps", "rmle.steps"):
        value = functools.reduce(lambda section, name: section[name], field.split("."), config)
        if value < 1:
            raise InputError(f"{field} is {value}; give at least 1.")
    if config.data.count < 0:
        raise InputError(f"data.count is {config.data.count}; give 0 for all images, or how many.")
    network = models.load(config.target.name, config.target.weights)
    splits = tuple(config.splits) or split_names(network)
    for name in (
        *splits,
        *(name for name, _ in config.dci.conquer),
        *config.refine.splits,
        *config.rmle.splits,
        *config.inverse_network.splits,
    ):
        split_index(network, name)
    deepest = max(split_index(network, name) for name in splits)
    if config.dci.batch < deepest:
        raise InputError(
            f"dci.batch is {config.dci.batch}, but each of the {deepest} split points down to "
            f"{split_names(network)[deepest - 1]} needs an image of its own in every step; give at least that many."
        )
    fake = np.zeros((config.synthesis.batches, 0), np.uint8)
    mixture(fake, config.inputs.to_dict())
    size = network.input_shape[0]
    if config.data.images:
        private = data.load(config.data.images, size, config.data.count)
    else:
        private = data.photographs(size)
    oracle = None
    if config.oracle.images:
        oracle = data.without(
            data.load(config.oracle.images, size, flag="--config.oracle.images"), private
        )
        if len(oracle) == 0:
            raise InputError(
                f"All images of {config.oracle.images} are also evaluated; give the oracle others."
            )
    return Setting(network, private, oracle, splits)
