"""The story of a run, each part of which resumes: make inputs, fit the attacks, reconstruct, report."""

import functools
import logging
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dci_jax.attacks import naming, registry
from dci_jax.defenses.channel import NONE, Channel
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.kept import costs
from dci_jax.evaluation.positive_control import control
from dci_jax.inputs.mixture import POOL, Prior
from dci_jax.report.leaks import POLICY, Policy, working
from dci_jax.results import ANY_SPLIT, lines, write
from dci_jax.runtime import distributed, program_cache
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
    key_defense = jax.random.fold_in(key_sent, 1)
    rows, row = [], {"target": case.network.name, "seed": config.seed}
    case.begin(evaluation)

    with timed("synthesize"):
        inputs = case.learn(key_learn, workdir)
    with timed("defenses"):
        channels = case.learn_channels(inputs, key_defense, workdir)
        sent = {
            (split, channel.label): case.sent(
                split, channel, key_sent, evaluation / "sent" / f"{split} {channel.label}.npz"
            )
            for split, several in channels.items()
            for channel in several
        }

    for name, guesses in case.baselines.items():
        scores = case.guess(guesses, evaluation / f"{name}.npz")
        cell = {"split": ANY_SPLIT, "attack": name, **naming.columns(name), **NONE.columns}
        rows += lines(scores, case.names, **row, **cell)

    fitted = {}
    for name in registry.names(config):
        with timed(f"attack {name}"):
            # By name, so that an attack's numbers do not depend on which others run; an adapted attack learns from the same
            # images as the plain one, so that what differs is what it knows.
            key = jax.random.fold_in(key_attack, zlib.crc32(name.removeprefix(naming.ADAPTED).encode()))
            fitted[name] = fit(config, name, case, inputs, channels, fitted, key=key, workdir=workdir)
        with timed(f"evaluate {name}"):
            for (split, label), reconstruct in fitted[name].items():
                present(workdir)
                channel = next(c for c in channels[split] if c.label == label)
                file = evaluation / name / f"{split} {label}.npz"
                scores = case.read(split, channel, reconstruct, key=key_sent, file=file)
                some = case.names[: len(next(iter(scores.values())))]
                cell = {"split": split, "attack": name, **naming.columns(name), **channel.columns}
                rows += lines(scores | sent[split, label], some, **row, **cell)
                shown, form = ("psnr", "%.2f dB") if "psnr" in scores else ("feature_error", "feature error %.3g")
                log.info(f"%s after %s, %s: {form}", name, split, label, float(np.mean(scores[shown])))
        program_cache.bound()

    if config.audit.page and case.baselines and case.private is not None:
        with timed("control"):
            policy = Policy(**{name: config.audit[name] for name in POLICY})
            key = jax.random.fold_in(key_attack, zlib.crc32(b"control"))
            control(config, case, inputs, policy, working(rows, policy), key, workdir)

    present(workdir)
    with timed("report"):
        case.finish({name: {split: r for (split, _), r in found.items()} for name, found in fitted.items()}, evaluation)
        if distributed.is_leader():
            write(rows, costs(case.network, case.splits), workdir)
            case.report(workdir)
    distributed.barrier("report")
    log.info("the report is %s", workdir / "report" / "index.html")


def fit(
    config: ConfigDict,
    name: str,
    case: Case,
    inputs: Prior,
    channels: dict[str, tuple[Channel, ...]],
    fitted: dict[str, dict[tuple[str, str], Callable]],
    *,
    key: jax.Array,
    workdir: Path,
) -> dict[tuple[str, str], Callable]:
    """Fit the attack called `name`, on what its adversary holds.

    Returns:
      (split point, label of its channel) -> function from features to inputs: one for all channels of a split, but
      where the attack is adapted one of its own for each that does something.
    """
    attack = registry.find(name, config.oracle.attack)
    splits, settings = registry.settings(config, attack, case.splits)
    source = name.partition("@")[2]
    if name == registry.ORACLE:
        inputs = Prior(case.oracle, ((POOL, 1.0),), inputs.shape)
    elif source:
        inputs = Prior((), ((source, 1.0),), inputs.shape)
    start = fitted.get(attack.starts_from, {})
    if not attack.adapted:
        if start:
            settings["start"] = {split: start[split, channels[split][0].label] for split in splits}
        folder = present(workdir, "attacks") / name
        found = attack.fit(case.network, inputs, splits, key, folder, **settings)
        return {(split, channel.label): found[split] for split in splits for channel in channels[split]}
    folder, found, begun = present(workdir, "attacks", name), {}, time.monotonic()
    cells = [(split, channel) for split in splits for channel in channels[split] if channel.kind != "none"]
    for number, (split, channel) in enumerate(cells):
        if number and split != cells[number - 1][0]:
            program_cache.bound()  # a split has programs of its own
        if number:
            left = (time.monotonic() - begun) / number * (len(cells) - number) / 60
            log.info("%s: %d of %d cells are done, about %.0f minutes left", name, number, len(cells), left)
        at = (split, channel.label)
        if start:
            settings["start"] = {split: start[at]}
        one = folder / f"{split} {channel.label}"
        found[at] = attack.fit(case.network, inputs, (split,), key, one, channel=channel, **settings)[split]
    return found
