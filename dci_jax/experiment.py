"""The story of a run, each part of which resumes: make inputs, fit the attacks, read back, report."""

import functools
import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax.attacks import registry
from dci_jax.cases.case import Case
from dci_jax.cases.kept import costs
from dci_jax.inputs.mixture import BANK, Inputs
from dci_jax.results import ANY_SPLIT, lines, write
from dci_jax.runtime import hosts
from dci_jax.runtime.workdir import present, timing

log = logging.getLogger("dci_jax")


def run(config: ConfigDict, case: Case, workdir: Path) -> None:
    """Audit the target and leave everything in `workdir`; the same call resumes.

    Args:
      config: as in configs/default.py.
      case: `check(config)`.
      workdir: as claimed by `claim`.
    """
    evaluation, timed = workdir / "evaluation", functools.partial(timing, workdir)
    key_learn, key_attack, key_sent = jax.random.split(jax.random.key(config.seed), 3)
    rows, row = [], {"target": case.network.name, "seed": config.seed}
    case.begin(evaluation)

    with timed("synthesize"):
        inputs = case.learn(key_learn, workdir)

    for name, guesses in case.floors.items():
        scores = case.guess(guesses, evaluation / f"{name}.npz")
        rows += lines(scores, case.names, split=ANY_SPLIT, attack=name, defense="none", **row)

    readers = {}
    for name in registry.names(config):
        with timed(f"attack {name}"):
            # By name, so that an attack's numbers do not depend on which others run.
            key = jax.random.fold_in(key_attack, zlib.crc32(name.encode()))
            readers[name] = fit(config, name, case, inputs, readers, key, workdir)
        with timed(f"evaluate {name}"):
            for split, reconstruct in readers[name].items():
                for kind, strength in case.perturbations[split]:
                    present(workdir)
                    label = kind if kind == "none" else f"{kind} {strength:g}"
                    file = evaluation / name / f"{split} {label}.npz"
                    scores = case.read(split, (kind, strength), reconstruct, key_sent, file)
                    some = case.names[: len(scores["psnr"])]
                    rows += lines(scores, some, split=split, attack=name, defense=label, **row)
                    psnr = float(np.mean(scores["psnr"]))
                    log.info("%s after %s, %s: %.2f dB", name, split, label, psnr)

    present(workdir)
    with timed("report"):
        case.finish(readers, evaluation)
        if hosts.leads():
            write(rows, costs(case.network, case.splits), workdir)
            case.report(workdir)
    hosts.meet("report")
    log.info("the report is %s", workdir / "report" / "index.html")


def fit(
    config: ConfigDict,
    name: str,
    case: Case,
    inputs: Inputs,
    readers: dict[str, dict[str, Callable]],
    key: jax.Array,
    workdir: Path,
) -> dict[str, Callable]:
    """Fit the attack called `name`, on what its adversary holds: split point -> function from features to inputs."""
    attack = registry.find(name, config.oracle.attack)
    own, settings = registry.settings(config, attack)
    source = name.partition("@")[2]
    if name == registry.ORACLE:
        inputs = Inputs(case.oracle, ((BANK, 1.0),), inputs.shape)
    elif source:
        inputs = replace(inputs, shares=((source, 1.0),))
    if attack.starts_from:
        settings["start"] = readers[attack.starts_from]
    folder = present(workdir, "attacks") / name
    return attack.fit(case.network, inputs, own or case.splits, key, folder, **settings)
