"""Check and load a config before any work: every error that the user can fix is raised here."""

import logging
import math
import os
import re

import jax
from ml_collections import ConfigDict

from dci_jax import models
from dci_jax.attacks.registry import ATTACKS, ORACLE, find, names, settings
from dci_jax.data.images import Images
from dci_jax.defenses.registry import DEFENSES, check_own
from dci_jax.defenses.registry import find as find_defense
from dci_jax.errors import InputError
from dci_jax.evaluation import images, latents, recorded
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.kept import evenly_spaced
from dci_jax.inputs.latents import latent_prior
from dci_jax.network import Network, feature_shapes, split_index, split_names, with_side
from dci_jax.report.evidence import previous
from dci_jax.runtime import distributed, sharding
from dci_jax.settings.check import check_ranges

log = logging.getLogger("dci_jax")

# Numbers of inputs that are made at a time. `dci` itself checks what it keeps, with their features.
BATCHES = (
    "synthesis.batch",
    "prior_fitting.batch",
    "dci.batch",
    "dci_trained.batch",
    "inverse_network.batch",
    "unet.batch",
    "refine.num_validation",
    "gauss_newton.num_validation",
)


def check(config: ConfigDict, planned: bool = False) -> Case:
    """Load everything the config names; no later step fails because of user input.

    Args:
      config: as in configs/default.py.
      planned: only shapes are needed: weights that would have to be downloaded are 0, and there is no verifier.

    Raises:
      InputError: an invalid value; the message gives it and the fix.
    """
    check_fields(config)
    return case_of(config, load_target(config, planned), planned=planned)


def check_fields(config: ConfigDict) -> None:
    """Raise InputError if a field is invalid for every network."""
    check_ranges(config)
    check_names(config)
    for section in ("refine", "rmle"):
        if config[section].prior_weight and not config[section].prior:
            raise InputError(
                f"{section}.prior_weight is {config[section].prior_weight:g}, but {section}.prior is empty; name one, or give 0."
            )
        if config[section].prior and not config[section].prior_weight:
            log.warning(
                "%s.prior has no effect: give %s.prior_weight a weight above 0, or leave the prior empty",
                section,
                section,
            )
    if config.verifier.weights and not config.verifier.name:
        raise InputError(
            f"verifier.weights is {config.verifier.weights}, but verifier.name is empty; name the network."
        )
    if config.data.labels and not config.data.images:
        raise InputError(f"data.labels is {config.data.labels}, but data.images is empty; give data.images, too.")
    previous(config.audit.previous)
    for field in ("data.images", "data.labels", "features"):  # before anything is fetched
        path = config.features if field == "features" else config.data[field.removeprefix("data.")]
        if path and not str(path).startswith("tfds:") and not os.path.exists(path):  # of impossible names, too
            raise InputError(f"No {field.removeprefix('data.')} at {path}; check the path in {field}.")


def load_target(config: ConfigDict, planned: bool = False) -> Network:
    """Load the config's network, for images of the config's side.

    Raises:
      InputError: see `models.load` and `with_side`.
    """
    name, source = config.target.name, config.target.weights
    if planned and not models.at_hand(name, source):
        log.info("the weights of %s are not available locally: planning from their shapes", name)
        network = models.blank(name)
    else:
        network = models.load(name, source, config.target.sha256, tuple(config.splits), config.target.weights_key)
    return with_side(network, config.target.side) if config.target.side else network


def case_of(config: ConfigDict, network: Network, private: Images | None = None, planned: bool = False) -> Case:
    """The `Case` of a network and a config whose fields are already checked.

    Args:
      config: as in configs/default.py.
      network: the target.
      private: the images; None: those that the config names.
      planned: as in `check`.

    Raises:
      InputError: an invalid value; the message gives it and the fix.
    """
    if planned:
        config.verifier.name = ""
    if config.features and latent_prior(network):
        raise InputError(
            f"features is {config.features}, but {network.name} takes latents; recorded features require a network of images."
        )
    recording = recorded.load(config, network) if config.features else None
    if recording:
        config = config.copy_and_resolve_references()
        config.splits = recording.splits
    splits = checked_splits(config, network)
    if recording:
        case = recording
    elif latent_prior(network):
        check_codes(config, network, splits)
        case = latents.load(config, network, splits)
    else:
        case = images.load(config, network, splits, private)
    if not planned:
        check_sizes(config, case)
    shapes = feature_shapes(network)
    for kind, strength in config.defenses:
        for split in splits:
            check_own(kind, strength, shapes[split_index(network, split)])
    for name in names(config):
        attack = find(name, config.oracle.attack)
        own, more = settings(config, attack, splits)
        attack.check(case.network, own, case.shape, **more)
    sharding.warn_if_uneven("synthesis.batch", config.synthesis.batch * bool(config.synthesis.batches))
    sharding.warn_if_uneven("batch", config.batch * ("deepinversion" in config.attacks))
    return case


def check_sizes(config: ConfigDict, case: Case) -> None:
    """Raise InputError if the inputs alone would exceed the machines' memory; only arithmetic, nothing is allocated."""
    memory = distributed.memory() * jax.process_count()
    shape = max(case.shape, case.network.input_shape, key=math.prod)
    for field in BATCHES:
        section, name = field.split(".")
        count, each = config[section][name], 4 * math.prod(shape)
        if count * each > memory:
            raise InputError(
                f"{field} is {count}: that many inputs of {list(shape)} take {count * each / 2**30:.0f} GiB, but only "
                f"{memory / 2**30:.0f} are available; give fewer than {memory // each}."
            )


def check_names(config: ConfigDict) -> None:
    """Raise InputError unless attacks exist, are named once and after those they start from, and features are sent."""
    order = list(config.attacks)
    if not order and not config.oracle.images:
        raise InputError("attacks is (), so nothing would be reconstructed; name one, such as ('dci',).")
    if not config.defenses:
        raise InputError("defenses is (), so nothing would be sent; give (('none', 0.0),) for undefended features.")
    if not config.num_queries or len(set(config.num_queries)) < len(config.num_queries):
        raise InputError(
            f"num_queries is {tuple(config.num_queries)}; give one or more distinct numbers, such as (1, 10)."
        )
    if config.defense.images and not any(find_defense(kind).learn for kind, _ in config.defenses):
        able = ", ".join(kind for kind, row in DEFENSES.items() if row.learn)
        raise InputError(
            f"defense.images is {config.defense.images}, but defenses names none that learns from images; add one of {able}, or "
            "leave it empty."
        )
    if ORACLE in order:
        raise InputError(f"{ORACLE!r} cannot be named in attacks; give oracle.images, which adds it.")
    for name in order:
        start = find(name).starts_from
        if find(name).adapted and all(kind == "none" for kind, _ in config.defenses):
            raise InputError(
                f"The attack {name!r} adapts to defenses, but defenses is {tuple(config.defenses)}; name one, such as "
                "(('none', 0.0), ('gaussian', 0.5))."
            )
        if order.count(name) > 1:
            raise InputError(f"attacks names {name!r} twice; name it once.")
        if start and start not in order[: order.index(name)]:
            raise InputError(f"The attack {name!r} starts from {start!r}; name {start!r} before it in attacks.")
    find(ORACLE, config.oracle.attack)


def checked_splits(config: ConfigDict, network: Network) -> tuple[str, ...]:
    """The run's split points, which must include those of every attack.

    Raises:
      InputError: an unknown or duplicate name, or a split point of an attack that the run, or the attack that it starts
        from, lacks.
    """
    for name in split_names(network):
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"{network.name} has a split point called {name!r}, and file names contain it; use only letters, digits, '_', '.', '+' "
                "and '-'."
            )
    splits = tuple(config.splits) or evenly_spaced(network, config.num_splits)
    for name in splits:
        split_index(network, name)
        if splits.count(name) > 1:
            raise InputError(f"splits names {name!r} twice; name it once.")
    for row in names(config):
        attack = find(row, config.oracle.attack)
        own, section = settings(config, attack, splits)[0], attack.section
        if section and config[section].get("num_splits") and config[section].splits:
            raise InputError(
                f"{section}.splits is {tuple(config[section].splits)} and {section}.num_splits {config[section].num_splits}; give one "
                "of them."
            )
        for name in own:
            split_index(network, name)
        missing = [name for name in own if name not in splits]
        if missing:
            raise InputError(
                f"{section}.splits names {', '.join(missing)}, which is not among splits ({', '.join(splits)}); add it "
                f"there, or give {section}.splits=() for all of them."
            )
        if attack.starts_from:
            start = settings(config, find(attack.starts_from), splits)[0]
            missing = [name for name in own if name not in start]
            if missing:
                raise InputError(
                    f"{row} reconstructs from {', '.join(missing)}, but {attack.starts_from} does not; choose "
                    f"{section}.splits among those of {attack.starts_from}."
                )
    return splits


def check_codes(config: ConfigDict, network: Network, splits: tuple[str, ...]) -> None:
    """Raise InputError unless the attacks can reconstruct latents, and one of them from the generator's image."""
    for name in config.attacks:
        if not find(name).latents:
            able = ", ".join(key for key, attack in ATTACKS.items() if attack.latents)
            raise InputError(
                f"The attack {name!r} cannot reconstruct latents of {network.name}, which is a generator; choose "
                f"from: {able}."
            )
    last = split_names(network)[-1]
    if not any(last in settings(config, find(name), splits)[0] for name in config.attacks):
        raise InputError(
            f"No attack reconstructs from {last!r}, the image that {network.name} generates, on which the report is based; add it "
            "to splits."
        )
